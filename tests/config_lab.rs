use std::path::Path;
#[test]
fn show() {
    for f in ["pgpool.conf.as-written", "pgpool.conf"] {
        let p = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/lab").join(f);
        match pgpool::config::load(&p) {
            Ok(l) => println!("OK\n{}", l.warnings),
            Err(e) => println!("BAD\n{e}"),
        }
    }
}
