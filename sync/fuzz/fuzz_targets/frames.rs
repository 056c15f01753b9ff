//! The frame decoder and the checks of a manifest's entries.
#![no_main]

use banger_proto::guest::v1::SyncRequest;
use banger_proto::guest::v1::sync_request::Body;
use banger_sync::frames::FrameReader;
use banger_sync::wire::parse_entry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = FrameReader::new(bytes);
    while let Ok(Some(request)) = reader.receive::<SyncRequest>() {
        if let Some(Body::Manifest(part)) = request.body {
            for wire in &part.entries {
                let _ = parse_entry(wire);
            }
        }
    }
});
