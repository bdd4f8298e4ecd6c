//! All client programs of PCP in one; `pgpool::tools::pcp` has them.

fn main() {
    std::process::exit(pgpool::tools::pcp::run(std::env::args_os()));
}
