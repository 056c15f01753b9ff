//! Branches and tags of a full copy: what the host has now, without taking away what the guest made of them. Pure.

use std::collections::BTreeMap;

type References<'a> = BTreeMap<&'a [u8], &'a [u8]>;

/// The content of a `packed-refs` file: names and what they are at. Peeled tags are left out; git finds them again.
fn parse(file: &[u8]) -> References<'_> {
    let lines = file.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#") && !line.starts_with(b"^"));
    lines
        .filter_map(|line| {
            let space = line.iter().position(|byte| *byte == b' ')?;
            Some((&line[space + 1..], &line[..space]))
        })
        .collect()
}

/// `packed-refs` with what the host has `now`. A reference that the guest has otherwise than the host `before` stays.
pub fn merge(before: &[u8], now: &[u8], guest: &[u8]) -> Vec<u8> {
    let (before, now, guest) = (parse(before), parse(now), parse(guest));
    let mut merged: References<'_> = now.clone();
    for (name, theirs) in &guest {
        if before.get(name) != Some(theirs) {
            merged.insert(name, theirs);
        }
    }
    for name in before.keys().filter(|name| !guest.contains_key(*name)) {
        // Deleted in the guest, and the host did not change its mind about it since.
        if before.get(name) == now.get(name) {
            merged.remove(name);
        }
    }
    let mut out = b"# pack-refs with: sorted \n".to_vec();
    for (name, id) in merged {
        out.extend([id, b" ", name, b"\n"].concat());
    }
    out
}

/// The value of `name`.
pub fn get<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    parse(file).get(name.as_bytes()).copied()
}

/// Names `before` had and `now` has not.
pub fn dropped(before: &[u8], now: &[u8]) -> Vec<Vec<u8>> {
    let now = parse(now);
    parse(before).into_keys().filter(|name| !now.contains_key(name)).map(<[u8]>::to_vec).collect()
}

/// True for names the host may bring.
pub fn are_branches_and_tags(file: &[u8]) -> bool {
    let plain = |id: &[u8]| id.len() == 40 && id.iter().all(u8::is_ascii_hexdigit);
    parse(file).iter().all(|(name, id)| {
        let known = name.starts_with(b"refs/heads/") || name.starts_with(b"refs/tags/");
        known && plain(id) && crate::path::TreePath::parse(name).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: &[(&str, char)]) -> Vec<u8> {
        let mut out = b"# pack-refs with: sorted \n".to_vec();
        for (name, digit) in lines {
            out.extend(format!("{} refs/{name}\n", digit.to_string().repeat(40)).into_bytes());
        }
        out
    }

    #[test]
    fn the_hosts_references_follow_and_the_guests_stay() {
        let before = file(&[("heads/deleted", '1'), ("heads/moved", '1'), ("heads/same", '1'), ("tags/both", '1')]);
        let now = file(&[("heads/moved", '2'), ("heads/new", '2'), ("heads/same", '1'), ("tags/both", '2')]);
        let mut guest = file(&[
            ("heads/deleted", '1'),
            ("heads/moved", '1'),
            ("heads/own", '9'),
            ("heads/same", '1'),
            ("tags/both", '9'),
        ]);
        guest.extend(b"^0000000000000000000000000000000000000000\n");
        let expected = file(&[
            ("heads/moved", '2'),
            ("heads/new", '2'),
            ("heads/own", '9'),
            ("heads/same", '1'),
            ("tags/both", '9'),
        ]);
        assert_eq!(merge(&before, &now, &guest), expected);
        assert_eq!(merge(b"", &now, b""), now, "the first time");
        assert_eq!(merge(&before, &now, &now), now, "a run that was interrupted after it");
        assert_eq!(dropped(&before, &now), [b"refs/heads/deleted"]);
        assert_eq!(get(&now, "refs/heads/new"), Some("2".repeat(40).as_bytes()));
    }

    #[test]
    fn what_the_guest_deleted_stays_deleted_until_the_host_moves_it() {
        let before = file(&[("heads/a", '1'), ("heads/b", '1')]);
        let now = file(&[("heads/a", '1'), ("heads/b", '2')]);
        assert_eq!(merge(&before, &now, &file(&[])), file(&[("heads/b", '2')]));
    }

    #[test]
    fn only_branches_and_tags_come() {
        assert!(are_branches_and_tags(&file(&[("heads/a/b", '1'), ("tags/v1", 'f')])));
        for bad in ["heads/../../config", "remotes/origin/a", "heads//a", "bisect/bad"] {
            assert!(!are_branches_and_tags(&file(&[(bad, '1')])), "{bad}");
        }
        assert!(!are_branches_and_tags(b"ref: refs/heads/a\n"));
    }
}
