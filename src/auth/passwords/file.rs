//! The file as a whole, and the key that its encrypted entries need (auth 4.1, 4.5, 6, 9).

use super::super::watched::Watched;
use super::super::{Credential, Secret, aes};
use super::{Entry, Table};
use crate::config::Settings;
use crate::report::{Report, Result};
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A key is the beginning of a line of at most this many bytes.
const MAX_KEY: usize = 255;
/// Bits of a mode that let in group and others.
const OTHERS: u32 = 0o077;

/// The file with the key of encrypted passwords.
pub struct KeyFile;

static KEY_FILE: OnceLock<PathBuf> = OnceLock::new();

impl KeyFile {
    /// Fixes where the key is, for this process and those it forks: `option` is that of the command line (auth 6).
    pub fn choose(option: Option<PathBuf>) {
        let path = option.unwrap_or_else(Self::default_path);
        // A daemon works in another directory.
        let _ = KEY_FILE.set(std::path::absolute(&path).unwrap_or(path));
    }

    /// Where it is.
    pub fn path() -> &'static Path {
        KEY_FILE.get_or_init(Self::default_path)
    }

    /// Where the key is when no option tells.
    pub fn default_path() -> PathBuf {
        let home = || {
            let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
            user.map(|user| user.dir.join(".pgpoolkey")).unwrap_or_default()
        };
        std::env::var_os("PGPOOLKEYFILE").map_or_else(home, PathBuf::from)
    }

    /// The key is the first line; an empty file has none.
    pub fn key(content: &[u8]) -> Option<Secret> {
        let line = content.split(|byte| *byte == b'\n').next()?;
        (!content.is_empty()).then(|| Secret::new(&line[..line.len().min(MAX_KEY)]))
    }
}

/// pool_passwd and the key, as they are whenever somebody asks.
#[derive(Debug)]
pub struct Passwords {
    table: Watched<Table>,
    key: Watched<Option<Secret>>,
}

impl Passwords {
    /// Of these settings. Nothing is read yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            table: Watched::new(Path::new(&settings.pool_passwd), Table::parse),
            key: Watched::new(KeyFile::path(), KeyFile::key).optional(),
        }
    }

    /// The entry of a user.
    pub fn entry(&mut self, user: &[u8]) -> Entry {
        let Self { table, key } = self;
        table.get().get(user).map_or(Entry::None, |text| read(text.bytes(), key))
    }

    /// The number of iterations that most verifiers in the file have, as it was read last.
    pub fn usual_iterations(&self) -> Option<u32> {
        self.table.last().usual_iterations()
    }

    /// What logs in a user of pgpool's own (auth 9.1): `parameter`, the password of pgpool.conf, and if that is empty the
    /// user's entry.
    pub fn own_user(&mut self, user: &str, parameter: &str) -> Credential {
        let entry = match parameter {
            "" => self.entry(user.as_bytes()),
            text => read(text.as_bytes(), &mut self.key),
        };
        let unusable = Report::warning(format!("could not get the password for user:{user}"));
        match entry {
            Entry::Undecryptable => unusable
                .detail("unable to decrypt password from pool_passwd")
                .hint("verify the valid pool_key exists")
                .log(),
            Entry::Empty => {
                unusable.detail("the password is empty").hint("Set it in pgpool.conf, or in pool_passwd.").log()
            }
            _ => {}
        }
        entry.credential()
    }
}

fn read(text: &[u8], key: &mut Watched<Option<Secret>>) -> Entry {
    Entry::new(text, |text| aes::decrypt(text, key.get().as_ref()?.bytes()))
}

/// What is done at start: a missing file is made, and remarks are made of files that others can read (auth 4.1).
///
/// # Errors
/// The file cannot be opened.
pub fn create(settings: &Settings) -> Result<()> {
    let path = Path::new(&settings.pool_passwd);
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let opened = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            OpenOptions::new().append(true).create(true).mode(0o600).open(path)
        }
        opened => opened,
    };
    if let Err(error) = opened {
        return Err(Report::fatal(format!("initializing pool password, failed to open file:\"{}\"", path.display()))
            .detail(format!("file open failed with error:\"{error}\""))
            .hint("The user that runs pgpool must be able to read it; see pool_passwd."));
    }
    if is_open_to_others(path) {
        Report::warning(format!("password file \"{}\" has group or world access", path.display()))
            .detail("Whoever can read it can log in as the users in it.")
            .hint("Permissions should be u=rw (0600) or less.")
            .log();
    }
    let key = KeyFile::path();
    if is_open_to_others(key) {
        Report::warning(format!(
            "pool key file \"{}\" has group or world access; permissions should be u=rw (0600) or less",
            key.display()
        ))
        .log();
    }
    Ok(())
}

fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & OTHERS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_first_line() {
        let key = |content: &str| KeyFile::key(content.as_bytes()).map(|key| key.bytes().to_vec());
        assert_eq!((key(""), key("\n"), key("k \r\nx")), (None, Some(vec![]), Some(b"k \r".to_vec())));
    }

    #[test]
    fn a_missing_file_is_made_for_its_owner_alone() {
        let directory = std::env::temp_dir().join(format!("pgpool-passwd-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let path = directory.join("pool_passwd");
        let settings = |path: &Path| Settings { pool_passwd: path.display().to_string(), ..Settings::default() };
        create(&settings(&path)).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        fs::write(&path, "u:secret\n").expect("write");
        create(&settings(&path)).expect("kept");
        let mut passwords = Passwords::new(&settings(&path));
        assert!(passwords.entry(b"u").is_of(b"secret", b"u") == Some(true) && !passwords.entry(b"v").is_there());
        assert!(matches!(passwords.own_user("u", ""), Credential::Password(known) if known.bytes() == b"secret"));
        assert!(matches!(passwords.own_user("u", "other"), Credential::Password(known) if known.bytes() == b"other"));
        assert!(matches!(passwords.own_user("v", ""), Credential::None));
        let report = create(&settings(&directory.join("no/such/place"))).expect_err("no directory");
        assert!(report.message.starts_with("initializing pool password, failed to open file:"));
        fs::remove_dir_all(&directory).expect("clean up");
    }
}
