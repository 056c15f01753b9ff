//! Names for VMs nobody named: an adjective and a noun, a valid host name.

use banger_proto::names::VmName;

const ADJECTIVES: &[&str] = &[
    "amber", "brave", "brisk", "calm", "clear", "clever", "cosmic", "crisp", "daring", "eager", "early", "fancy",
    "fleet", "fresh", "gentle", "golden", "grand", "happy", "hardy", "honest", "humble", "icy", "jolly", "keen",
    "kind", "lively", "lucid", "lucky", "mellow", "merry", "mighty", "misty", "modest", "neat", "nimble", "noble",
    "placid", "plucky", "polite", "proud", "quick", "quiet", "rapid", "ready", "rosy", "rustic", "sandy", "sharp",
    "shiny", "silent", "silver", "sleek", "smart", "snowy", "solid", "spry", "steady", "sunny", "swift", "tidy",
    "vivid", "warm", "witty", "young",
];
const NOUNS: &[&str] = &[
    "acorn", "anchor", "aspen", "badger", "basil", "beacon", "birch", "bison", "breeze", "brook", "canyon", "cedar",
    "cliff", "clover", "comet", "coral", "crane", "creek", "delta", "dune", "ember", "falcon", "fern", "finch",
    "fjord", "forest", "fox", "garnet", "glade", "grove", "harbor", "hare", "hazel", "heron", "island", "jay",
    "juniper", "kelp", "lagoon", "lark", "lemur", "lichen", "lynx", "maple", "marsh", "meadow", "moss", "newt", "oak",
    "opal", "orchid", "otter", "owl", "panda", "pebble", "pine", "plover", "quartz", "raven", "reef", "robin",
    "sparrow", "tern", "willow",
];

/// A name for which `taken` is false. `random` is any source of random numbers.
pub fn propose_name(mut random: impl FnMut() -> u128, taken: impl Fn(&str) -> bool) -> VmName {
    let mut attempt = 0u32;
    loop {
        let number = random();
        let pick = |words: &[&'static str], shift: u32| words[(number >> shift) as usize % words.len()];
        let mut name = format!("{}-{}", pick(ADJECTIVES, 0), pick(NOUNS, 64));
        // Crowded: make room rather than search for the last free pair.
        if attempt >= 8 {
            name = format!("{name}-{}", (number >> 32) as u16);
        }
        attempt += 1;
        if !taken(&name) {
            return name.parse().expect("the words are letters joined by hyphens");
        }
    }
}

/// A random number from the operating system.
pub fn random() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_words_is_a_valid_name() {
        for word in ADJECTIVES.iter().chain(NOUNS) {
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()) && word.len() <= 10, "{word}");
        }
    }

    #[test]
    fn a_taken_name_is_passed_over() {
        let mut numbers = [0u128, 0, 1].into_iter();
        let name = propose_name(|| numbers.next().expect("asked at most three times"), |name| name == "amber-acorn");
        assert_eq!(name.as_str(), "brave-acorn");
    }

    #[test]
    fn a_name_is_found_even_when_every_pair_is_taken() {
        let name = propose_name(random, |name| name.matches('-').count() == 1);
        assert!(name.as_str().matches('-').count() == 2, "{name}");
    }
}
