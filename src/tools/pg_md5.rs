//! `pg_md5` (tools 5, auth 7): the hash of a password, for pcp.conf and pool_passwd.

use super::getopt::{Long, long};
use super::pairs::{self, LIMIT, Line};
use super::password_options::Options;
use super::pool_passwd::{self, File};
use super::{fail, prompt, say};
use crate::auth::md5;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

const SHORT: &str = "hpmsf:i:u:";
const LONG: &[Long] = &[
    long("help", false, b'h'),
    long("prompt", false, b'p'),
    long("stdin", false, b's'),
    long("md5auth", false, b'm'),
    long("username", true, b'u'),
    long("config-file", true, b'f'),
    long("input-file", true, b'i'),
];

/// Runs it. Returns the exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    Options::read(arguments, SHORT, LONG, usage).and_then(carry_out).err().unwrap_or(0)
}

/// Errors are exit statuses; what is wrong has been told.
fn carry_out(options: Options) -> Result<(), i32> {
    let file = || options.update.then(|| File::of(options.config.as_deref())).transpose();
    if let Some(path) = &options.pairs {
        let file = file()?;
        return pairs::read(path).ok_or(1).and_then(|lines| all(&lines, file.as_ref()));
    }
    let password = if options.stdin {
        prompt::from_stdin(LIMIT + 1)
    } else if options.prompt {
        prompt::on_stdin("password: ", LIMIT + 1).ok_or_else(|| fail("stdin is not tty\n"))?
    } else {
        options.operand.map(OsStringExt::into_vec).ok_or_else(|| fail(&usage(&options.program)))?
    };
    if password.len() > LIMIT {
        return Err(fail(&format!("Error: Input exceeds maximum password length!\n\n{}", usage(&options.program))));
    }
    match file()? {
        None => tell_hash(&password),
        Some(file) => {
            let user = pool_passwd::user(options.user);
            if user.len() > LIMIT {
                return Err(fail("Error: input exceeds maximum username length!\n\n"));
            }
            file.set(&user, &entry(&password, &user)?)
        }
    }
}

/// The lines of a file, each told with its number.
fn all(lines: &[Line], file: Option<&File>) -> Result<(), i32> {
    for (at, line) in lines.iter().enumerate() {
        let text = match line {
            Line::Blank => "BLANK LINE".to_owned(),
            Line::Invalid => "Invalid username:password pair".to_owned(),
            Line::UserTooLong => format!("input exceeds maximum username length {LIMIT}\n"),
            Line::PasswordTooLong => format!("input exceeds maximum password length {LIMIT}"),
            Line::Pair { user, .. } => format!("USER: <{}>", String::from_utf8_lossy(user)),
        };
        say(format!("LINE#{:02}: {text}\n", at + 1));
        if let Line::Pair { user, password } = line {
            match file {
                None => tell_hash(password)?,
                Some(file) => {
                    let user = pool_passwd::user(Some(OsString::from_vec(user.clone())));
                    file.set(&user, &entry(password, &user)?)?;
                }
            }
        }
    }
    Ok(())
}

fn tell_hash(password: &[u8]) -> Result<(), i32> {
    if say(hash(&[password])? + "\n") { Ok(()) } else { Err(1) }
}

/// The entry of pool_passwd.
fn entry(password: &[u8], user: &[u8]) -> Result<String, i32> {
    Ok(format!("md5{}", hash(&[password, user])?))
}

fn hash(parts: &[&[u8]]) -> Result<String, i32> {
    let digits = md5::hex(parts).ok_or_else(|| fail("Error: this system's OpenSSL does without MD5\n"))?;
    Ok(String::from_utf8_lossy(&digits).into_owned())
}

fn usage(program: &OsStr) -> String {
    let program = program.to_string_lossy();
    format!(
        "Usage:

  {program} [OPTIONS]
  {program} <PASSWORD>

  --prompt, -p         Prompt password using standard input.
  --stdin, -s          Read password from standard input, also from a pipe.
  --md5auth, -m        Produce md5 authentication password.
  --username, -u USER  When producing a md5 authentication password,
                       create the pool_passwd entry for USER.
  --config-file, -f CONFIG-FILE  Specify pgpool.conf.
  --input-file, -i INPUT-FILE  Specify file containing username and password pairs.
  --help, -h           This help menu.

Warning: At most 128 characters are allowed for input.
Warning: Plain password argument is deprecated for security concerns
         and kept for compatibility. Please prefer using password
         prompt or input file method.
"
    )
}
