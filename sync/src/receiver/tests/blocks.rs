//! Copying from an old version: what is asked for and what is copied stays within it.

use std::io::Cursor;

use banger_proto::guest::v1::{Blocks, BlocksOf, BlocksRequest, CopyRange};

use super::*;
use crate::blocks::{FILES_LIMIT, LEAST};

const AVERAGE: u32 = 16 << 10;

fn old() -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(LEAST).unwrap() + 5];
    blake3::Hasher::new().update(b"old").finalize_xof().fill(&mut bytes);
    bytes
}

fn with_old() -> Place {
    let place = Place::new();
    send(&place.root, &whole(&[(b"large", WireKind::File, &old()), (b"link", WireKind::Symlink, b"large")])).0.unwrap();
    place
}

fn ask(files: &[(u32, u32)]) -> Request {
    let files = files.iter().map(|&(index, average_size)| BlocksOf { index, average_size }).collect();
    Request::Blocks(BlocksRequest { files })
}

fn copy(offset: u64, size: u64) -> Request {
    Request::Copy(CopyRange { offset, size })
}

fn chunk(data: &[u8]) -> Request {
    Request::Chunk(Chunk { data: data.to_vec().into() })
}

fn start(index: u32) -> Request {
    Request::FileStart(FileStart { index, kind: WireKind::File.into() })
}

fn end(entry: &WireEntry) -> Request {
    Request::FileEnd(FileEnd { entry: Some(entry.clone()), abandoned: false })
}

/// A manifest of these files and a link, then these messages.
fn after(new: &[&WireEntry], requests: &[Request]) -> Vec<Request> {
    let mut entries: Vec<_> = new.iter().copied().cloned().collect();
    entries.push(wire(b"link", WireKind::Symlink, b"large"));
    let mut all = vec![hello()];
    all.extend(manifest(&entries));
    all.extend_from_slice(requests);
    all
}

fn told(replies: &[Reply]) -> Vec<&Blocks> {
    replies.iter().filter_map(|reply| if let Reply::Blocks(blocks) = reply { Some(blocks) } else { None }).collect()
}

#[test]
fn a_file_is_put_together_from_its_old_version_and_what_is_new() {
    let place = with_old();
    let (old, size) = (old(), old().len() as u64);
    let new = [&old[1000..], b"new", &old[..1000]].concat();
    let entry = file(b"large", &new);
    let requests = [
        ask(&[(0, AVERAGE)]),
        start(0),
        copy(1000, size - 1000),
        chunk(b"new"),
        copy(0, 1000),
        end(&entry),
        Request::Finish(Finish::default()),
    ];
    let (outcome, replies) = send(&place.root, &after(&[&entry], &requests));
    outcome.unwrap();
    let told = told(&replies);
    assert_eq!(told[0].sizes.iter().map(|&size| u64::from(size)).sum::<u64>(), size);
    assert_eq!(told[0].digests.len(), told[0].sizes.len() * 16);
    assert_eq!(std::fs::read(place.root.join("large")).unwrap(), new);
}

#[test]
fn what_is_no_old_version_of_ours_has_no_blocks() {
    let place = with_old();
    let (large, new) = (file(b"large", b"other"), file(b"a", b"new"));
    let rest = |first: Vec<Request>| {
        let mut requests = first;
        requests.extend([batch(0, &new, b"new"), batch(1, &large, b"other"), Request::Finish(Finish::default())]);
        after(&[&new, &large], &requests)
    };
    // Not there yet, and a link.
    let (outcome, replies) = send(&place.root, &rest(vec![ask(&[(0, AVERAGE), (2, AVERAGE)])]));
    outcome.unwrap();
    assert_eq!(told(&replies), [&Blocks::default(), &Blocks::default()]);

    // Changed by the guest: its work, of which nothing is told.
    let place = with_old();
    std::fs::write(place.root.join("large"), vec![b'g'; 3 << 20]).unwrap();
    let requests = [ask(&[(0, AVERAGE)]), Request::Finish(Finish::default())];
    let (outcome, replies) = send(&place.root, &after(&[&large], &requests));
    outcome.unwrap();
    assert_eq!(told(&replies), [&Blocks::default()]);
    assert_eq!(std::fs::read(place.root.join("large")).unwrap(), vec![b'g'; 3 << 20]);
}

#[test]
fn hostile_requests_and_ranges_are_refused_and_the_old_version_stays() {
    let size = old().len() as u64;
    let entry = file(b"large", b"never");
    let many = vec![(0, AVERAGE); FILES_LIMIT + 1];
    let asked = ask(&[(0, AVERAGE)]);
    for requests in [
        vec![ask(&[(2, AVERAGE)])],
        vec![ask(&[(u32::MAX, AVERAGE)])],
        vec![ask(&[(0, 0)])],
        vec![ask(&[(0, 1)])],
        vec![ask(&[(0, 1 << 31)])],
        vec![ask(&many)],
        vec![asked.clone(), asked.clone()],
        vec![start(0), asked.clone()],
        vec![copy(0, 1)],
        vec![asked.clone(), copy(0, 1)],
        vec![start(0), copy(0, 1)],
        vec![asked.clone(), start(0), copy(size, 1)],
        vec![asked.clone(), start(0), copy(1, size)],
        vec![asked.clone(), start(0), copy(u64::MAX, 1)],
        vec![asked.clone(), start(0), copy(1, u64::MAX)],
        vec![asked.clone(), start(0), copy(0, 5), end(&entry)],
        vec![asked, start(0), copy(0, 5), Request::Finish(Finish::default())],
    ] {
        let place = with_old();
        let outcome = send(&place.root, &after(&[&entry], &requests)).0;
        assert!(
            matches!(outcome, Err(ReceiverError::Unexpected { .. } | ReceiverError::Content { .. })),
            "{requests:?}: {outcome:?}"
        );
        assert_eq!(std::fs::read(place.root.join("large")).unwrap(), old(), "{requests:?}");
        place.assert_outside_untouched();
    }
}

/// Changes a file when it is read for the first time.
struct Meddler<F: FnMut()>(Option<F>);

impl<F: FnMut()> Read for Meddler<F> {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        if let Some(mut meddle) = self.0.take() {
            meddle();
        }
        Ok(0)
    }
}

#[test]
fn what_the_guest_writes_while_it_is_copied_from_is_kept() {
    let new = [&old()[..], b"appended"].concat();
    let entry = file(b"large", &new);
    let size = old().len() as u64;
    let before = after(&[&entry], &[ask(&[(0, AVERAGE)]), start(0)]);
    let rest = [copy(0, size), chunk(b"appended"), end(&entry), Request::Finish(Finish::default())];
    for content in [vec![], vec![b'g'; old().len()], b"shorter".to_vec()] {
        let place = with_old();
        let path = place.root.join("large");
        let meddler = Meddler(Some(|| std::fs::write(&path, &content).unwrap()));
        let input = Cursor::new(bytes(&before)).chain(meddler).chain(Cursor::new(bytes(&rest)));
        let mut output = Vec::new();
        run(&place.root, input, &mut output).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), content);
        let mut reader = FrameReader::new(output.strip_prefix(crate::frames::PREAMBLE).unwrap());
        let mut conflicts = Vec::new();
        while let Some(reply) = reader.receive::<SyncReply>().unwrap() {
            if let Some(Reply::Conflicts(part)) = reply.body {
                conflicts.extend(part.conflicts);
            }
        }
        assert_eq!((conflicts.len(), conflicts[0].reason()), (1, WireConflict::Changed));
        let names: Vec<_> = std::fs::read_dir(&place.root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "no temporary: {names:?}");
    }
}
