//! Who goes first when memory runs out (oom_score_adj in proc(5)).

use nix::unistd::Pid;
use std::fs;

/// Takes back the protection that a child has inherited from its parent: it is the parent that must stay. To do so needs no
/// right, and if it fails nothing else is the worse for it.
pub fn unprotect(child: Pid) {
    let path = format!("/proc/{child}/oom_score_adj");
    if fs::read_to_string(&path).is_ok_and(|score| score.starts_with('-')) {
        let _ = fs::write(path, "0");
    }
}
