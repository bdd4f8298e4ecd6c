//! `pgpool check` also looks at pool_hba.conf, if it counts.

use std::process::Command;

#[test]
fn rules_are_checked_where_they_count() {
    let directory = std::env::temp_dir().join(format!("pgpool-check-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("directory");
    let (config, hba) = (directory.join("pgpool.conf"), directory.join("pool_hba.conf"));
    let check = |switch: &str, rules: &str| {
        std::fs::write(
            &config,
            format!("backend_hostname0 = '127.0.0.1'\nbackend_port0 = 1024\nenable_pool_hba = {switch}\n"),
        )
        .expect("config");
        std::fs::write(&hba, rules).expect("rules");
        let output = Command::new(env!("CARGO_BIN_EXE_pgpool"))
            .args(["check".as_ref(), "-f".as_ref(), config.as_os_str(), "-a".as_ref(), hba.as_os_str()])
            .output()
            .expect("pgpool");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (status, text) = check("on", "local all all trust\n");
    assert!(status == Some(0) && text.ends_with(&format!("The rules can be used: {}\n", hba.display())), "{text}");
    let (status, text) = check("on", "hostssl all all all md5\n");
    assert!(status == Some(0) && text.contains("WARNING:  hostssl record cannot match"), "{text}");
    let (status, text) = check("on", "local all all trust\nnonsense\n");
    let place = format!(
        "ERROR:  invalid connection type \"nonsense\"\n    CONTEXT:  line 2 of configuration file \"{}\"",
        hba.display()
    );
    assert!(status == Some(1) && text.contains(&place) && text.contains("The rules cannot be used"), "{text}");
    let (status, text) = check("off", "nonsense\n");
    assert!(status == Some(0) && !text.contains("rules"), "{text}");
    std::fs::remove_dir_all(&directory).expect("clean up");
}
