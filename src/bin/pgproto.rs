//! `pgproto`: plays a file of protocol messages; `pgpool::tools::pgproto` has it.

fn main() {
    std::process::exit(pgpool::tools::pgproto::run(std::env::args_os()));
}
