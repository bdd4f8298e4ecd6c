//! `pg_enc`: encrypted passwords; `pgpool::tools::pg_enc` has it.

fn main() {
    std::process::exit(pgpool::tools::pg_enc::run(std::env::args_os()));
}
