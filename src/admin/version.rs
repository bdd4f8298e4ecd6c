//! SHOW POOL_VERSION (show-commands 5.1).

use super::View;
use crate::report::version;

columns! { text: String;
    pool_version => text,
}

pub(super) fn rows(_: &View<'_>) -> Vec<Vec<String>> {
    vec![values(&version::text())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_find_the_number() {
        let [row] = &[values(&version::text())];
        let (number, name) = row[0].split_once(' ').expect("two words");
        assert_eq!(number, version::VERSION);
        assert!(name.starts_with('(') && name.ends_with(')'));
        assert_eq!(COLUMNS, ["pool_version"]);
    }
}
