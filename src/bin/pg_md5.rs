//! `pg_md5`: hashes of passwords; `pgpool::tools::pg_md5` has it.

fn main() {
    std::process::exit(pgpool::tools::pg_md5::run(std::env::args_os()));
}
