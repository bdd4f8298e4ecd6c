//! "Did you mean ...?": the nearest known word to a misspelt one.

/// The candidate nearest to `word`, if it is near enough to be what was meant. Ties go to the first.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // One slip per three letters, at least one: short words are never "near" to each other.
    let limit = (word.chars().count() / 3).clamp(1, 4);
    let distance = |candidate: &'a str| (distance(word, &candidate.to_ascii_lowercase()), candidate);
    let nearest = candidates.into_iter().map(distance).min_by_key(|(distance, _)| *distance);
    nearest.filter(|(distance, _)| *distance <= limit).map(|(_, candidate)| candidate)
}

/// ` Did you mean "x"?` to be put behind a sentence, or nothing.
pub fn question(guess: Option<&str>) -> String {
    guess.map(|guess| format!(" Did you mean \"{guess}\"?")).unwrap_or_default()
}

/// Number of letters to add, drop, change or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // A long word is no misspelling; this also bounds the work.
    if a.len().abs_diff(b.len()) > 4 {
        return usize::MAX;
    }
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word_wins_if_near_enough() {
        let words = ["listen_addresses", "port", "pcp_port", "ssl"];
        assert_eq!(closest("listen_adresses", words), Some("listen_addresses"));
        assert_eq!(closest("prot", words), Some("port"));
        assert_eq!(closest("pcpport", words), Some("pcp_port"));
        assert_eq!(closest("hello", words), None);
        assert_eq!(closest("", words), None);
    }
}
