//! follow_primary.sh: a node becomes a standby of the new primary.

use std::os::unix::fs::symlink;

use super::{Scripts, leave_node_1_behind, rewindable, streaming_from, told, write_program};
use crate::harness::{Cluster, Scratch, Stop, server_program};
use crate::needs_program;

#[test]
fn a_standby_that_is_ahead_of_the_new_primary_is_rewound() {
    needs_program!("pg_rewind");
    let cluster = rewindable(3);
    leave_node_1_behind(&cluster);
    let scripts = Scripts::new(&cluster, "");
    let (_, data) = scripts.place(0);
    told(&scripts.failover(0, &data, 1, 0), 0, "is the primary");
    let outcome = scripts.follow(2, 1);
    told(&outcome, 0, "pg_rewind of ");
    assert!(outcome.stdout.contains("pg_rewind: Done!"), "{outcome:#?}");
    assert_eq!(streaming_from(cluster.node(1)), "node2");
    assert_eq!(cluster.node(2).sql("SELECT to_regclass('late') IS NULL"), "t");
}

#[test]
fn a_node_that_streams_is_attached() {
    let cluster = Cluster::streaming(2).start();
    let scripts = Scripts::new(&cluster, "PCP_PORT=9876 PCP_USER=admin");
    let noted = scripts.directory.path().join("noted");
    // What pgpool refuses is no failure of the program.
    let successful = "pcp_attach_node -- Command Successful";
    for (status, said, expected) in [(0, successful, 0), (0, "ERROR: no", 1), (1, "", 1)] {
        let text = format!("#!/bin/sh\necho \"$@\" >{}\necho '{said}'\nexit {status}\n", noted.display());
        write_program(&scripts.directory.path().join("pcp_attach_node"), &text);
        told(&scripts.follow(1, 0), expected, "standby 1 streams from 127.0.0.1:");
        let arguments = std::fs::read_to_string(&noted).expect("arguments");
        assert_eq!(arguments, "-w -h localhost -p 9876 -U admin -n 1\n");
    }
}

#[test]
fn what_pg_rewind_cannot_rewind_is_made_anew() {
    needs_program!("pg_rewind");
    // Without wal_log_hints and checksums.
    let cluster = Cluster::streaming(3).set("full_page_writes", "on").start();
    let scripts = Scripts::new(&cluster, "REBUILD_STOPPED_NODES=yes");
    let (_, data) = scripts.place(0);
    cluster.node(0).kill();
    told(&scripts.failover(0, &data, 1, 0), 0, "is the primary");
    told(&scripts.follow(0, 1), 0, "pg_rewind has failed, making a base backup");
    assert_eq!(streaming_from(cluster.node(1)), "node0");
    assert_eq!(cluster.node(0).sql("SHOW port"), cluster.node(0).port.to_string());
    assert_only_its_own(&cluster, 0);
}

#[test]
fn a_rebuild_that_was_interrupted_is_taken_up_again() {
    needs_program!("pg_rewind");
    let cluster = rewindable(2);
    // The server's programs, with a pg_rewind that leaves the primary's configuration behind when it is killed.
    let real = server_program("pg_rewind");
    let programs = Scratch::new("programs");
    for entry in std::fs::read_dir(real.parent().expect("a directory")).expect("programs").flatten() {
        symlink(entry.path(), programs.path().join(entry.file_name())).expect("link");
    }
    let fake = programs.path().join("pg_rewind");
    std::fs::remove_file(&fake).expect("pg_rewind");
    write_program(&fake, "#!/bin/sh\necho 'port = 1' >\"$2/postgresql.conf\"\nkill -KILL $PPID\n");

    let scripts = Scripts::new(&cluster, &format!("PG_BIN={}", programs.path().display()));
    let (port, data) = scripts.place(0);
    told(&scripts.failover(0, &data, 1, 0), 0, "is the primary");
    told(&scripts.follow(0, 1), 1, "node 0 could not be rebuilt");
    assert!(!cluster.node(0).is_running());
    std::fs::remove_file(&fake).expect("pg_rewind");
    symlink(&real, &fake).expect("link");
    told(&scripts.follow(0, 1), 0, "standby 0 streams from");
    assert_eq!(cluster.node(0).sql("SHOW port"), port);
    assert_only_its_own(&cluster, 0);
}

/// Nothing lies beside the data directory but the log.
#[track_caller]
fn assert_only_its_own(cluster: &Cluster, id: usize) {
    let entries = std::fs::read_dir(cluster.directory()).expect("directory").flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let left: Vec<_> = names.iter().filter(|name| name.starts_with(&format!("node{id}."))).collect();
    assert_eq!(left, [&format!("node{id}.log")]);
}

#[test]
fn a_node_that_is_down_is_left_alone() {
    let cluster = Cluster::streaming(3).start();
    let scripts = Scripts::new(&cluster, "USE_SLOTS=yes");
    cluster.node(0).kill();
    cluster.node(2).stop(Stop::Fast);
    let (_, data) = scripts.place(0);
    told(&scripts.failover(0, &data, 1, 0), 0, "is the primary");
    for id in [0, 2] {
        told(&scripts.follow(id, 1), 0, "does not run and is left alone");
        assert!(!cluster.node(id).is_running());
    }
    assert_eq!(cluster.node(1).sql("SELECT count(*) FROM pg_replication_slots"), "0");
}
