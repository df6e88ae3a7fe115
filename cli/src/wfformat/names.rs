//! Valid and unique names for whatever the tasks of an instance are called.

use std::collections::{BTreeMap, BTreeSet};

use millstream_model::hash::ContentHash;
use millstream_model::ids::StepId;
use millstream_model::limits::NAME_LENGTH_MAX;

/// Digits of the hash that follows a changed name.
const HASH_LENGTH: usize = 8;

/// The step of each task.
///
/// Invariant: different tasks have different steps.
#[derive(Debug)]
pub(super) struct Names<'a>(BTreeMap<&'a str, String>);

impl<'a> Names<'a> {
    pub(super) fn of(tasks: impl Iterator<Item = &'a str>) -> Self {
        let (kept, changed): (Vec<&str>, Vec<&str>) = tasks.partition(|task| is_valid(task));
        let mut taken: BTreeSet<String> = kept.iter().map(|task| (*task).to_owned()).collect();
        let mut steps: BTreeMap<&str, String> = kept.into_iter().map(|task| (task, task.to_owned())).collect();
        for task in changed {
            let step = (HASH_LENGTH..NAME_LENGTH_MAX)
                .map(|length| changed_name(task, length))
                .find(|step| !taken.contains(step))
                .expect("names with longer and longer hashes do not all collide");
            taken.insert(step.clone());
            steps.insert(task, step);
        }
        Self(steps)
    }

    /// The step of a task that is in the instance.
    pub(super) fn step(&self, task: &str) -> &str {
        &self.0[task]
    }
}

/// The text itself when it is a name, else a name made from it.
pub(super) fn valid(text: &str) -> String {
    if is_valid(text) { text.to_owned() } else { changed_name(text, HASH_LENGTH) }
}

fn is_valid(text: &str) -> bool {
    text.parse::<StepId>().is_ok()
}

/// What is not allowed is replaced, what is too long loses its beginning (the end is what tells tasks apart), and a
/// hash of the whole text follows.
fn changed_name(text: &str, hash_length: usize) -> String {
    let mut stem: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect();
    let room = NAME_LENGTH_MAX - 1 - hash_length;
    if stem.len() > room {
        stem = whole_words(&stem[stem.len() - room..]).to_owned();
    }
    if !stem.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        stem.insert(0, '_');
        stem.truncate(room);
    }
    let hash = ContentHash::of(text.as_bytes()).to_string();
    format!("{stem}-{}", &hash[..hash_length])
}

/// Without the piece of a word that a cut left at the beginning.
fn whole_words(text: &str) -> &str {
    const PIECE_MAX: usize = 20;
    match text.find(['_', '-']) {
        Some(end) if end <= PIECE_MAX => text[end..].trim_start_matches(['_', '-']),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_name_stays_and_an_invalid_one_gets_a_hash() {
        assert_eq!(valid("blast_0-1"), "blast_0-1");
        assert_eq!(valid("MAG.FASTP_7"), "MAG_FASTP_7-3e4f8c3c");
        assert!(valid("1000genome").starts_with("_1000genome-"));
        assert!(valid("").starts_with("_-"));
    }

    #[test]
    fn a_long_name_keeps_its_last_words() {
        let task = "NFCORE_RNASEQ.RNASEQ.ALIGN_STAR.BAM_SORT_STATS_SAMTOOLS.BAM_STATS_SAMTOOLS.SAMTOOLS_IDXSTATS_152";
        let name = changed_name(task, HASH_LENGTH);
        assert_eq!(name[..name.len() - 1 - HASH_LENGTH], *"SAMTOOLS_BAM_STATS_SAMTOOLS_SAMTOOLS_IDXSTATS_152");
    }

    #[test]
    fn names_that_would_collapse_stay_apart() {
        let long = |n: u32| format!("{}.STEP_{n}", "NFCORE.".repeat(20));
        let tasks = [long(1), long(2), "a.b".into(), "a:b".into(), "a_b".into(), valid("a.b"), "9".repeat(80)];
        let names = Names::of(tasks.iter().map(String::as_str));
        let steps: BTreeSet<&str> = tasks.iter().map(|task| names.step(task)).collect();
        assert_eq!(steps.len(), tasks.len(), "{steps:?}");
        assert!(steps.iter().all(|step| is_valid(step)), "{steps:?}");
    }
}
