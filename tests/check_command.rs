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

#[test]
fn what_cannot_be_known_is_told_with_its_cause() {
    let directory = std::env::temp_dir().join(format!("pgpool-check-known-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("directory");
    let config = directory.join("pgpool.conf");
    // Nobody listens on a port that was just given back, and pool_passwd is not there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("port").port();
    let text = format!(
        "backend_hostname0 = '127.0.0.1'\nbackend_port0 = {port}\nsr_check_user = 'joe'\nwork_dir = '/no/such'\n"
    );
    std::fs::write(&config, text).expect("config");
    let output = Command::new(env!("CARGO_BIN_EXE_pgpool"))
        .args(["check".as_ref(), "-f".as_ref(), config.as_os_str()])
        .output()
        .expect("pgpool");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let unknown = text.lines().find(|line| line.contains("not known what it allows:")).unwrap_or_default();
    assert!(unknown.contains("Connection refused"), "{text}");
    let remark = format!("{}:4:1: WARNING:  work_dir: there is no directory \"/no/such\"", config.display());
    assert!(text.contains(&remark), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "a missing pool_passwd is made at the start");
    std::fs::remove_dir_all(&directory).expect("clean up");
}
