//! Where files are looked for, and how paths become absolute (config 1.1, 1.2).

use super::catalogue::PARAMETERS;
use super::settings::Settings;
use super::value::Value;
use std::path::{Component, Path, PathBuf};

/// Directory of the configuration files, fixed at build time by the environment variable of that name.
pub const SYSCONFDIR: &str = match option_env!("PGPOOL_SYSCONFDIR") {
    Some(directory) => directory,
    None => "/usr/local/etc",
};

/// The configuration files of a run, all absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLocations {
    /// pgpool.conf
    pub config: PathBuf,
    /// pcp.conf
    pub pcp: PathBuf,
    /// pool_hba.conf
    pub hba: PathBuf,
}

impl FileLocations {
    /// Finds the files from the options `-f`, `-F` and `-a` and the working directory. Without an option a file is
    /// the one in SYSCONFDIR; pcp.conf and pool_hba.conf are taken from beside pgpool.conf if they do not exist there.
    pub fn find(config: Option<&Path>, pcp: Option<&Path>, hba: Option<&Path>, working_directory: &Path) -> Self {
        let system = |name: &str| Path::new(SYSCONFDIR).join(name);
        let config = config.map_or_else(|| system("pgpool.conf"), |path| absolute(path, working_directory));
        let beside = |name: &str| config.with_file_name(name);
        let locate = |option: Option<&Path>, name: &str| match option {
            Some(path) => absolute(path, working_directory),
            None if !system(name).exists() && beside(name).exists() => beside(name),
            None => system(name),
        };
        Self { pcp: locate(pcp, "pcp.conf"), hba: locate(hba, "pool_hba.conf"), config }
    }
}

/// `path` from `directory` on, without doubled slashes, `.` and `..`; symbolic links are not resolved.
pub fn absolute(path: &Path, directory: &Path) -> PathBuf {
    let mut absolute = PathBuf::from("/");
    for component in directory.join(path).components() {
        match component {
            Component::Normal(name) => absolute.push(name),
            Component::ParentDir => _ = absolute.pop(),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    absolute
}

/// Makes the paths absolute that are relative to the directory of pgpool.conf. An empty path stays empty.
pub(super) fn resolve(settings: &mut Settings, directory: &Path) {
    for parameter in PARAMETERS.iter().filter(|p| p.relative_to_config_file && p.alias_of.is_none()) {
        if let Value::Text(path) = parameter.value(settings, None)
            && !path.is_empty()
        {
            let path = absolute(Path::new(&path), directory);
            parameter.store(settings, None, Value::Text(path.to_string_lossy().into_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_tidy() {
        let cases = [
            ("pgpool.conf", "/etc/pgpool.conf"),
            ("/a//b/./c/", "/a/b/c"),
            ("../x/..", "/"),
            ("../../../x", "/x"),
            ("sub/dir/.", "/etc/sub/dir"),
        ];
        for (path, expected) in cases {
            assert_eq!(absolute(Path::new(path), Path::new("/etc")), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn pcp_and_hba_are_found_beside_the_main_file_as_second_choice() {
        let directory = std::env::temp_dir().join(format!("pgpool-paths-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("pcp.conf"), "").unwrap();
        let found = FileLocations::find(Some(Path::new("pgpool.conf")), None, None, &directory);
        assert_eq!(found.config, directory.join("pgpool.conf"));
        assert_eq!(found.pcp, directory.join("pcp.conf"));
        assert_eq!(found.hba, Path::new(SYSCONFDIR).join("pool_hba.conf"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
