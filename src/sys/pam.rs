//! PAM: the six functions of it that a check of a password needs, by Linux-PAM's binary interface.
//!
//! Modules of PAM run in the process that calls: they may wait, start processes, or crash. So only a process that exists
//! for nothing else may call.

use super::library::{Library, text};
use libc::{c_char, c_int, c_void};
use std::ffi::{CStr, CString};
use std::hint::black_box;
use std::ptr::null_mut;

const SUCCESS: c_int = 0;
const BUFFER_ERROR: c_int = 5;
const CONVERSATION_ERROR: c_int = 19;
/// `PAM_USER`, `PAM_RHOST`.
const USER: c_int = 2;
const REMOTE_HOST: c_int = 4;
/// The longest answer in bytes: `PAM_MAX_RESP_SIZE` without the zero byte at its end. Modules were written for no more.
pub const MAX_ANSWER: usize = 511;
/// `PAM_MAX_NUM_MSG`
const MAX_MESSAGES: c_int = 32;

/// What a module says in the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// It asks, and the answer is not to be seen.
    Prompt,
    /// It tells of an error.
    Error,
    /// It tells something.
    Info,
    /// Anything else, by its number.
    Other(i32),
}

/// What it gets for it.
pub enum Reply {
    /// The answer, of at most [`MAX_ANSWER`] bytes, without a zero byte in it. It is wiped. Any other ends the conversation.
    Answer(Vec<u8>),
    /// It was heard.
    Heard,
    /// The conversation is over.
    Fail,
}

/// Who answers to modules.
pub type Talk<'a> = dyn FnMut(Style, &str) -> Reply + 'a;

/// Whether PAM's `service` lets in `user` from `host`: the password is right and the account may be used. No session is
/// opened.
///
/// # Errors
/// It does not, with its reason; or PAM cannot be used.
pub fn check(service: &CStr, user: &CStr, host: Option<&CStr>, talk: &mut Talk<'_>) -> Result<(), String> {
    let functions = Functions::load().map_err(|error| format!("could not load PAM: {error}"))?;
    let mut talk = talk;
    let conversation = Conversation { talk: converse, data: (&raw mut talk).cast() };
    let mut handle: *mut Handle = null_mut();
    // SAFETY: the strings live through the call, the conversation until `end`; `handle` is ours.
    let started =
        unsafe { (functions.start)(service.as_ptr(), user.as_ptr(), &raw const conversation, &raw mut handle) };
    let failed = |handle: *mut Handle, what: &str, code: c_int| {
        // SAFETY: the handle is PAM's own or null, which it does not look at here; the text is copied at once.
        Err(format!("{what}: {}", unsafe { text((functions.strerror)(handle, code)) }))
    };
    if started != SUCCESS {
        return failed(null_mut(), "unable to create PAM authenticator", started);
    }
    let set = |item: c_int, value: &CStr| {
        // SAFETY: the handle is open, and PAM copies the string.
        unsafe { (functions.set_item)(handle, item, value.as_ptr().cast()) }
    };
    type Step<'a> = (&'a str, &'a dyn Fn() -> c_int);
    let steps: [Step<'_>; 4] = [
        ("pam_set_item(PAM_USER) failed", &|| set(USER, user)),
        ("pam_set_item(PAM_RHOST) failed", &|| host.map_or(SUCCESS, |host| set(REMOTE_HOST, host))),
        // SAFETY: the handle is open, and what the conversation needs is alive.
        ("pam_authenticate failed", &|| unsafe { (functions.authenticate)(handle, 0) }),
        // SAFETY: as above.
        ("system call pam_acct_mgmt failed ", &|| unsafe { (functions.account)(handle, 0) }),
    ];
    let mut code = SUCCESS;
    let mut outcome = Ok(());
    for (what, step) in steps {
        code = step();
        if code != SUCCESS {
            outcome = failed(handle, what, code);
            break;
        }
    }
    // SAFETY: the handle is open and not used any more.
    let ended = unsafe { (functions.end)(handle, code) };
    match outcome {
        Ok(()) if ended != SUCCESS => failed(null_mut(), "unable to release PAM authenticator", ended),
        outcome => outcome,
    }
}

/// `pam_handle_t`
enum Handle {}

/// `struct pam_message`
#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

/// `struct pam_response`
#[repr(C)]
struct Response {
    answer: *mut c_char,
    code: c_int,
}

type Converse = unsafe extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int;

/// `struct pam_conv`
#[repr(C)]
struct Conversation {
    talk: Converse,
    data: *mut c_void,
}

struct Functions {
    start: unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut *mut Handle) -> c_int,
    set_item: unsafe extern "C" fn(*mut Handle, c_int, *const c_void) -> c_int,
    authenticate: unsafe extern "C" fn(*mut Handle, c_int) -> c_int,
    account: unsafe extern "C" fn(*mut Handle, c_int) -> c_int,
    end: unsafe extern "C" fn(*mut Handle, c_int) -> c_int,
    strerror: unsafe extern "C" fn(*mut Handle, c_int) -> *const c_char,
}

impl Functions {
    fn load() -> Result<Self, String> {
        let library = Library::load(&[c"libpam.so.0"])?;
        // SAFETY: the types are those of <security/pam_appl.h>.
        unsafe {
            Ok(Self {
                start: library.function(c"pam_start")?,
                set_item: library.function(c"pam_set_item")?,
                authenticate: library.function(c"pam_authenticate")?,
                account: library.function(c"pam_acct_mgmt")?,
                end: library.function(c"pam_end")?,
                strerror: library.function(c"pam_strerror")?,
            })
        }
    }
}

/// PAM's way to [`Talk`]. The answers are PAM's to free, so they come from malloc(3).
unsafe extern "C" fn converse(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    if !(1..=MAX_MESSAGES).contains(&count) || messages.is_null() || responses.is_null() {
        return CONVERSATION_ERROR;
    }
    // SAFETY: `data` is what `check` has set, which lives until `pam_end`; PAM does not call back from two places at once.
    let talk = unsafe { &mut *data.cast::<&mut Talk<'_>>() };
    let count = count as usize;
    // SAFETY: plain allocation; zeroes are valid responses.
    let answers = unsafe { libc::calloc(count, size_of::<Response>()) }.cast::<Response>();
    if answers.is_null() {
        return BUFFER_ERROR;
    }
    for at in 0..count {
        // SAFETY: Linux-PAM passes an array of `count` pointers to messages.
        let (style, said) = unsafe {
            let message = *messages.add(at);
            ((*message).style, text((*message).text))
        };
        let style = match style {
            1 => Style::Prompt,
            3 => Style::Error,
            4 => Style::Info,
            other => Style::Other(other),
        };
        let copy = match talk(style, &said) {
            Reply::Answer(answer) => duplicate(answer),
            Reply::Heard => continue,
            Reply::Fail => None,
        };
        let Some(copy) = copy else {
            // SAFETY: the first `count` responses are ours still; each answer is null or from strdup(3).
            unsafe { release(answers, count) };
            return CONVERSATION_ERROR;
        };
        // SAFETY: `at` is less than the number of responses.
        unsafe { (*answers.add(at)).answer = copy };
    }
    // SAFETY: PAM waits for the responses there, and frees them.
    unsafe { *responses = answers };
    SUCCESS
}

/// A copy for PAM; the original is wiped.
fn duplicate(answer: Vec<u8>) -> Option<*mut c_char> {
    let answer = CString::new(answer).ok().filter(|answer| answer.count_bytes() <= MAX_ANSWER)?;
    // SAFETY: a C string.
    let copy = unsafe { libc::strdup(answer.as_ptr()) };
    let mut answer = answer.into_bytes();
    answer.fill(0);
    black_box(&answer);
    (!copy.is_null()).then_some(copy)
}

/// # Safety
/// `answers` are `count` responses from calloc(3), their answers null or from strdup(3).
unsafe fn release(answers: *mut Response, count: usize) {
    for at in 0..count {
        // SAFETY: as the caller says; a C string is wiped up to its end.
        unsafe {
            let answer = (*answers.add(at)).answer;
            if !answer.is_null() {
                libc::explicit_bzero(answer.cast(), libc::strlen(answer));
                libc::free(answer.cast());
            }
        }
    }
    // SAFETY: from calloc(3), and nobody else has it.
    unsafe { libc::free(answers.cast()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a module would get for these messages.
    fn ask(messages: &[(c_int, &CStr)], talk: &mut Talk<'_>) -> Result<Vec<String>, c_int> {
        let messages: Vec<Message> =
            messages.iter().map(|(style, text)| Message { style: *style, text: text.as_ptr() }).collect();
        let mut pointers: Vec<*const Message> = messages.iter().map(|message| &raw const *message).collect();
        let mut responses = null_mut();
        let mut talk = talk;
        let data = (&raw mut talk).cast();
        let count = messages.len() as c_int;
        // SAFETY: called as PAM calls it.
        match unsafe { converse(count, pointers.as_mut_ptr(), &raw mut responses, data) } {
            SUCCESS => {
                // SAFETY: as many responses as messages, freed once.
                unsafe {
                    let answers = (0..messages.len()).map(|at| text((*responses.add(at)).answer)).collect();
                    release(responses, messages.len());
                    Ok(answers)
                }
            }
            code => Err(code),
        }
    }

    #[test]
    fn modules_ask_and_tell() {
        let mut heard = Vec::new();
        let mut talk = |style, text: &str| {
            heard.push((style, text.to_owned()));
            if style == Style::Prompt { Reply::Answer(b"secret".to_vec()) } else { Reply::Heard }
        };
        let messages = [(1, c"Password: "), (4, c"hello"), (3, c"oh"), (2, c"Name: "), (1, c"Again: ")];
        assert_eq!(ask(&messages, &mut talk), Ok(["secret", "", "", "", "secret"].map(str::to_owned).to_vec()));
        let styles: Vec<_> = heard.iter().map(|(style, _)| *style).collect();
        assert_eq!(styles, [Style::Prompt, Style::Info, Style::Error, Style::Other(2), Style::Prompt]);
        assert_eq!(heard[2].1, "oh");
    }

    #[test]
    fn no_answer_ends_the_conversation() {
        let mut left = 1;
        let mut talk = |_, _: &str| {
            left -= 1;
            if left < 0 { Reply::Fail } else { Reply::Answer(b"secret".to_vec()) }
        };
        assert_eq!(ask(&[(1, c"one"), (1, c"two")], &mut talk), Err(CONVERSATION_ERROR));
        assert_eq!(ask(&[(1, c"one")], &mut |_, _: &str| Reply::Answer(b"a\0b".to_vec())), Err(CONVERSATION_ERROR));
        assert_eq!(ask(&[], &mut |_, _: &str| Reply::Heard), Err(CONVERSATION_ERROR));
        let long = |length: usize| ask(&[(1, c"one")], &mut |_, _: &str| Reply::Answer(vec![b'x'; length]));
        assert_eq!(long(MAX_ANSWER).map(|answers| answers[0].len()), Ok(MAX_ANSWER));
        assert_eq!(long(MAX_ANSWER + 1), Err(CONVERSATION_ERROR));
    }
}
