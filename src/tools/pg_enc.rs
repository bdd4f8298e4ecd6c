//! `pg_enc` (tools 6, auth 8): encrypted passwords for pool_passwd and pgpool.conf.

use super::getopt::{Long, long};
use super::pairs::{self, LIMIT, Line};
use super::password_options::Options;
use super::pool_passwd::{self, File};
use super::{complain, fail, prompt, say};
use crate::auth::passwords::KeyFile;
use crate::auth::{Secret, aes};
use crate::report::version;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const SHORT: &str = "hpPsmf:i:u:k:K:";
const LONG: &[Long] = &[
    long("help", false, b'h'),
    long("prompt", false, b'p'),
    long("prompt-for-key", false, b'P'),
    long("stdin", false, b's'),
    long("update-pass", false, b'm'),
    long("username", true, b'u'),
    long("enc-key", true, b'K'),
    long("key-file", true, b'k'),
    long("config-file", true, b'f'),
    long("input-file", true, b'i'),
];
/// Longer keys are refused, in bytes.
const MAX_KEY: usize = 256;

/// Runs it. Returns the exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    Options::read(arguments, SHORT, LONG, usage).and_then(carry_out).err().unwrap_or(0)
}

/// Errors are exit statuses; what is wrong has been told.
fn carry_out(options: Options) -> Result<(), i32> {
    let password = match options.pairs {
        Some(_) => None,
        None => Some(password(&options)?),
    };
    let key = key(&options)?;
    let file = options.update.then(|| File::of(options.config.as_deref())).transpose()?;
    let encrypt = |password: &[u8], user: Option<OsString>| {
        let text = aes::encrypt(password, key.bytes())
            .map_err(|_| fail("Error: this system's OpenSSL does without SHA-1 or AES\n"))?;
        let Some(file) = &file else {
            let block = format!("\n{text}\npool_passwd string: {}{text}\n", aes::PREFIX);
            return if say(block) { Ok(()) } else { Err(1) };
        };
        let user = pool_passwd::user(user);
        if user.len() > LIMIT {
            return Err(fail("Error: input exceeds maximum username length!\n\n"));
        }
        file.set(&user, &format!("{}{text}", aes::PREFIX))
    };
    if let Some(password) = password {
        return encrypt(&password, options.user);
    }
    let lines = pairs::read(&options.pairs.unwrap_or_default()).ok_or(1)?;
    for (at, line) in lines.into_iter().enumerate() {
        let problem = match line {
            Line::Blank => continue,
            Line::Pair { user, password } => {
                encrypt(&password, Some(OsString::from_vec(user)))?;
                continue;
            }
            Line::Invalid => "invalid username:password pair".to_owned(),
            Line::UserTooLong => format!("input exceeds maximum username length {LIMIT}"),
            Line::PasswordTooLong => format!("input exceeds maximum password length {LIMIT}"),
        };
        complain(format!("LINE#{:02}: {problem}\n", at + 1));
    }
    Ok(())
}

fn password(options: &Options) -> Result<Vec<u8>, i32> {
    let password = match options.operand.clone() {
        _ if options.stdin => prompt::from_stdin(usize::MAX),
        Some(operand) if !options.prompt => operand.into_vec(),
        _ => prompt::on_stdin("db password: ", usize::MAX).ok_or_else(|| fail("stdin is not tty\n"))?,
    };
    if password.len() > LIMIT {
        let given = password.len();
        return Err(fail(&format!(
            "Error: Input exceeds maximum password length given:{given} max allowed:{LIMIT}!\n\n{}",
            usage(&options.program)
        )));
    }
    Ok(password)
}

/// The key: typed in, given, or from a file.
fn key(options: &Options) -> Result<Secret, i32> {
    let missing = || fail("encryption key not provided\n");
    let key = if options.prompt_for_key {
        let typed = prompt::on_stdin("encryption key: ", usize::MAX).ok_or_else(|| fail("stdin is not tty\n"))?;
        Some(Secret::new(typed)).filter(|key| !key.bytes().is_empty()).ok_or_else(missing)?
    } else {
        match options.key.clone().filter(|key| !key.is_empty()) {
            Some(key) => Secret::new(key.into_vec()),
            None => key_of_file(options).ok_or_else(missing)?,
        }
    };
    match key.bytes().len() {
        length if length > MAX_KEY => {
            Err(fail(&format!("Error: Input exceeds maximum key length given:{length} max allowed:{MAX_KEY}!\n")))
        }
        _ => Ok(key),
    }
}

/// The key in the file that is given, or in the usual one (auth 6).
fn key_of_file(options: &Options) -> Option<Secret> {
    let path = options.key_file.as_ref().map_or_else(KeyFile::default_path, PathBuf::from);
    let name = path.display();
    say(format!("trying to read key from file {name}\n"));
    let warn = |text: &str| {
        complain(format!("WARNING: pid {}: pool key file \"{name}\" {text}\n\n", std::process::id()));
    };
    let metadata = fs::metadata(Path::new(&path)).ok()?;
    if !metadata.is_file() {
        warn("is not a plain file");
        return None;
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        warn("has group or world access; permissions should be u=rw (0600) or less");
    }
    KeyFile::key(&fs::read(&path).ok()?)
}

fn usage(program: &OsStr) -> String {
    let (version, program, key_file) = (version::text(), program.to_string_lossy(), KeyFile::default_path());
    format!(
        "pgpool-II version {version},
  password encryption utility for Pgpool

Usage:
  {program} [OPTIONS] <PASSWORD>
  -k, --key-file=KEY_FILE
                       Set the path to the encryption key file.
                       Default: {}
                       Can be overridden by the PGPOOLKEYFILE environment variable.
  -K, --enc-key=ENCRYPTION_KEY
                       Encryption key to be used for encrypting database passwords.
  -f, --config-file=CONFIG_FILE
                       Specifies the pgpool.conf file.
  -i, --input-file=INPUT-FILE
                       Specify file containing username and password pairs.
  -p, --prompt         Prompt for database password using standard input.
  -s, --stdin          Read database password from standard input, also from a pipe.
  -P, --prompt-for-key
                       Prompt for encryption key using standard input.
  -m, --update-pass    Create encrypted password entry in the pool_passwd file.
  -u, --username       The username for the pool_password entry.
  -h, --help           Print this help.

",
        key_file.display()
    )
}
