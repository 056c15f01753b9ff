//! Any bytes are a request or a reason, never a panic; and what is a request keeps its promises.
#![no_main]

use bangerd_root::request::{LIMIT, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = parse(bytes) {
        assert!(bytes.len() <= LIMIT);
        assert!((1..=64).contains(&request.operation_id.len()));
        if let Some(vm) = request.operation.vm() {
            assert!(vm.as_str().len() == 32 && vm.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
});
