//! The program `pgpool`.

fn main() {
    std::process::exit(pgpool::cli::run(std::env::args_os().skip(1)));
}
