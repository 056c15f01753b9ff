//! The guest's commits as a file that git itself can read: a bundle, gitformat-bundle(5) version 2.

use std::fmt::Write as _;

use gix::ObjectId;

use super::Summary;

/// What stands before the pack: the commit it builds on, the guest's `HEAD` and its branch. `None`: no commits.
pub fn header(summary: &Summary, base: Option<ObjectId>) -> Option<String> {
    let head = summary.head.filter(|_| summary.commits > 0)?;
    let mut header = String::from("# v2 git bundle\n");
    if let Some(base) = base {
        let _ = writeln!(header, "-{base} ");
    }
    let branch = summary.branch.as_deref().filter(|name| name.starts_with("refs/heads/") && !name.contains('\n'));
    for name in branch.into_iter().chain(["HEAD"]) {
        let _ = writeln!(header, "{head} {name}");
    }
    header.push('\n');
    Some(header)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_commits_make_a_bundle() {
        let id = |digit: &str| ObjectId::from_hex(digit.repeat(40).as_bytes()).unwrap();
        let branch = Some("refs/heads/main".to_owned());
        let summary = Summary { branch, head: Some(id("1")), commits: 2, fingerprint: Vec::new() };
        let (head, base) = ("1".repeat(40), "2".repeat(40));
        assert_eq!(
            header(&summary, Some(id("2"))).unwrap(),
            format!("# v2 git bundle\n-{base} \n{head} refs/heads/main\n{head} HEAD\n\n")
        );
        let detached = Summary { branch: None, ..summary.clone() };
        assert_eq!(header(&detached, None).unwrap(), format!("# v2 git bundle\n{head} HEAD\n\n"));
        assert_eq!(header(&Summary { commits: 0, ..summary }, Some(id("2"))), None);
    }
}
