//! pool_hba.conf: what is said of slips, which rule a client gets, and that no file does harm (auth 3).

use pgpool::auth::hba::{Client, Method, Names, Record, Rules, Slips, Sources};
use proptest::prelude::*;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const FILE: &str = "/etc/pool_hba.conf";

fn read(text: &str) -> Result<Rules, Slips> {
    read_with(text, &[])
}

fn read_with(text: &str, others: &[(&str, &str)]) -> Result<Rules, Slips> {
    let all = [(FILE, text)].into_iter().chain(others.iter().copied());
    let files = all.map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec()));
    Rules::from_sources(Path::new(FILE), true, &Sources::new(files))
}

/// The slips as `LINE: text [hint]`.
fn slips(text: &str) -> Vec<String> {
    let shown = |report: &pgpool::report::Report| {
        let line = report.context.as_deref().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
        let hint = report.hint.as_ref().map_or_else(String::new, |hint| format!(" [{hint}]"));
        format!("{line}: {}{hint}", report.message)
    };
    read(text).expect_err(text).reports().iter().map(shown).collect()
}

/// No names are known, and one interface.
struct Nameless;

impl Names for Nameless {
    fn interfaces(&mut self) -> Vec<(IpAddr, Option<IpAddr>)> {
        vec![("192.168.1.1".parse().expect("ip"), Some("255.255.255.0".parse().expect("ip")))]
    }

    fn name(&mut self, _: IpAddr) -> Option<String> {
        None
    }

    fn addresses(&mut self, _: &str) -> Vec<IpAddr> {
        Vec::new()
    }
}

/// Line and method of the rule for a client, written `[local]|ADDRESS[+tls] user database`.
fn rule(text: &str, client: &str) -> Option<(usize, &'static str)> {
    let mut words = client.split(' ');
    let from = words.next().expect("address");
    let client = Client {
        address: (from != "[local]").then(|| from.trim_end_matches("+tls").parse().expect("address")),
        tls: from.ends_with("+tls"),
        user: words.next().expect("user").as_bytes(),
        database: words.next().expect("database").as_bytes(),
    };
    let rules = read(text).expect(text);
    rules.find(client, &mut Nameless).map(|Record { line, method, .. }| (*line, method.name()))
}

const METHODS: &str = " [The methods are trust, reject, password, md5, scram-sha-256, cert, pam, ldap.]";

#[test]
fn slips_are_told_with_their_lines() {
    for (line, expected) in [
        (
            "local,host all all trust",
            "multiple values specified for connection type [Specify exactly one connection type per line.]",
        ),
        ("HOST all all all trust", "invalid connection type \"HOST\""),
        ("hostgssenc all all all trust", "invalid connection type \"hostgssenc\""),
        ("include x", "invalid connection type \"include\""),
        ("local", "end-of-line before database specification"),
        ("local all", "end-of-line before role specification"),
        ("host all all", "end-of-line before IP address specification"),
        ("local all all", "end-of-line before authentication method"),
        ("host all all all", "end-of-line before authentication method"),
        (
            "host all all 1.2.3.4",
            "end-of-line before netmask specification [Specify an address range in CIDR notation, or provide a separate netmask.]",
        ),
        (
            "host all all 1.2.3.4,5.6.7.8 trust",
            "multiple values specified for host address [Specify one address range per line.]",
        ),
        ("host all all 1.2.3.4 255.0.0.0,255.0.0.0 trust", "multiple values specified for netmask"),
        (
            "host all all 1.2.3.4 md5",
            "invalid IP mask \"md5\": Name or service not known [A single address is written 1.2.3.4/32.]",
        ),
        ("host all all 1.2.3.4 ffff:: trust", "IP address and mask do not match"),
        ("host all all 1.2.3.4/33 trust", "invalid CIDR mask in address \"1.2.3.4/33\""),
        ("host all all 1.2.3.4/ trust", "invalid CIDR mask in address \"1.2.3.4/\""),
        ("host all all ::1/129 trust", "invalid CIDR mask in address \"::1/129\""),
        ("host all all 1.2.3/+8 trust", "invalid CIDR mask in address \"1.2.3/+8\""),
        ("host all all 1.2.3.444/8 trust", "specifying both host name and CIDR mask is invalid: \"1.2.3.444/8\""),
        (
            "local all all trust,md5",
            "multiple values specified for authentication type [Specify exactly one authentication type per line.]",
        ),
        ("local all all ident", &format!("invalid authentication method \"ident\"{METHODS}")),
        ("local all all MD5", &format!("invalid authentication method \"MD5\"{METHODS}")),
        ("local all all trust x", "authentication option not in name=value format: x"),
        ("local all all cert clientname=DN", "unrecognized authentication option name: \"clientname\""),
        ("host all all all md5 clientcert=verify-ca", "clientcert can only be configured for \"hostssl\" rows"),
        ("hostssl all all all md5 clientcert=1", "invalid value for clientcert: \"1\""),
        (
            "hostssl all all all cert clientcert=verify-ca",
            "clientcert only accepts \"verify-full\" when using \"cert\" authentication",
        ),
        (
            "local all all md5 ldapserver=x",
            "authentication option \"ldapserver\" is only valid for authentication methods ldap",
        ),
        ("local all all ldap ldapport=0 ldapprefix=x", "invalid LDAP port number: \"0\""),
        ("local all all ldap ldapport=x ldapprefix=x", "invalid LDAP port number: \"x\""),
        // What is not understood never means less than what was meant.
        ("local all all ldap ldapprefix=x ldapscheme=tls", "invalid ldapscheme value: \"tls\" [Use ldap or ldaps.]"),
        (
            "local all all ldap ldapprefix=x ldapscheme=ldap://",
            "invalid ldapscheme value: \"ldap://\" [Use ldap or ldaps.]",
        ),
        ("local all all ldap ldapprefix=x ldaptls=on", "invalid ldaptls value: \"on\" [Use 1 or 0.]"),
        (
            "local all all ldap ldapprefix=x backend_use_passwd=yes",
            "invalid backend_use_passwd value: \"yes\" [Use 1 or 0.]",
        ),
        ("local all all pam backend_use_passwd=", "invalid backend_use_passwd value: \"\" [Use 1 or 0.]"),
        ("local all all pam pam_use_hostname=true", "invalid pam_use_hostname value: \"true\" [Use 1 or 0.]"),
        (
            "local all all ldap",
            "authentication method \"ldap\" requires argument \"ldapbasedn\", \"ldapprefix\", or \"ldapsuffix\" to be set",
        ),
        (
            "local all all ldap ldapprefix=x ldapbasedn=y",
            "cannot use ldapbasedn, ldapbinddn, ldapbindpasswd, ldapsearchattribute, ldapsearchfilter, or ldapurl together with ldapprefix",
        ),
        (
            "local all all ldap ldapbasedn=y ldapsearchattribute=a ldapsearchfilter=f",
            "cannot use ldapsearchattribute together with ldapsearchfilter",
        ),
        (
            "local all all ldap ldapbasedn=y ldapsearchfilter=(objectClass=person)",
            "ldapsearchfilter does not depend on the user: there is no \"$username\" in it",
        ),
        (
            "local all @nowhere trust",
            "could not open secondary authentication file \"@nowhere\" as \"/etc/nowhere\": entity not found",
        ),
    ] {
        let told = slips(&format!("local all all trust\n# a comment\n{line}\n"));
        assert!(told[0] == format!("3: {expected}"), "{line}: {told:?}");
    }
}

#[test]
fn all_slips_are_found_at_once() {
    let told = slips("x\nlocal all all trust\n\nlocal all all y\n");
    assert_eq!(told, ["1: invalid connection type \"x\"", &format!("4: invalid authentication method \"y\"{METHODS}")]);
    assert_eq!(slips("# nothing\n\n"), [format!(": configuration file \"{FILE}\" contains no entries")]);
    let long = "x".repeat(256);
    let told = slips(&format!("local {long} all trust"));
    assert_eq!(told[0], "1: authentication file token too long, skipping: 256 bytes");
    assert_eq!(slips(&format!("local {} all trust", "x,".repeat(5000))), ["1: authentication file line too long"]);
}

#[test]
fn no_slip_shows_a_password() {
    let long = format!("ldapbindpasswd=top{}", "SECRET".repeat(50));
    for (options, told) in [
        (&*long, "authentication file token too long, skipping: \"ldapbindpasswd=...\", of 318 bytes"),
        ("ldapbindpasswd=half,SECRET", "option 3 of the line, behind ldapbindpasswd, is not understood"),
        ("ldapbindpasswd=half SECRET=x", "option 3 of the line, behind ldapbindpasswd, is not understood"),
        ("ldapbindpasswd half SECRET", "authentication option not in name=value format: ldapbindpasswd"),
    ] {
        let slips = read(&format!("local all all ldap ldapbasedn=x {options}\n")).expect_err(options);
        let all = format!("{slips:?}");
        assert!(slips.reports()[0].message == told && !all.contains("SECRET") && !all.contains("half"), "{all}");
    }
}

#[test]
fn files_that_include_themselves_many_times_are_not_read_for_ever() {
    let itself = "@loop ".repeat(100);
    let slips = read_with("local all @loop trust\n", &[("/etc/loop", &itself)]).expect_err("a loop");
    let count = |end: &str| slips.reports().iter().filter(|report| report.message.ends_with(end)).count();
    assert_eq!(count("too many files are included"), 1);
    assert!(slips.reports().len() <= 1001, "{}", slips.reports().len());
    // Many files are fine.
    let other = "u ".repeat(100);
    assert!(read_with(&format!("local all {} trust\n", ["@other"; 900].join(",")), &[("/etc/other", &other)]).is_ok());
}

#[test]
fn what_means_less_than_it_seems_is_remarked_on() {
    let path = std::env::temp_dir().join(format!("pgpool-hba-remarks-{}", std::process::id()));
    let remarks = |text: &str, mode: u32| {
        std::fs::write(&path, text).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        let (_, remarks, _) = Rules::load(&path, true).expect("in order");
        let shown = |report: &pgpool::report::Report| format!("{:?}: {}", report.severity, report.message);
        remarks.reports().iter().map(shown).collect::<Vec<_>>()
    };
    let regex = "regular expressions are not supported for databases and users";
    let group = "group token \"+\" is not supported by Pgpool-II";
    for (line, told) in [
        ("local all /^adm trust", vec![format!("Log: {regex}")]),
        ("local \"/^a.*\" u reject", vec![format!("Warning: {regex}")]),
        ("local all +admins reject", vec![format!("Warning: {group}")]),
        ("local all +admins md5", vec![format!("Log: {group}")]),
        ("local all u reject", vec![]),
    ] {
        assert_eq!(remarks(line, 0o644), told, "{line}");
    }
    let line = "local all all ldap ldapbasedn=x ldapbindpasswd=secret";
    let open =
        format!("Warning: everybody on this machine can read \"{}\", and there is an ldapbindpasswd", path.display());
    assert_eq!([remarks(line, 0o644), remarks(line, 0o640)], [vec![open], vec![]]);
    std::fs::remove_file(&path).expect("clean up");
}

#[test]
fn missing_files_and_remarks() {
    let slips = Rules::load(Path::new("/no/such/file"), true).expect_err("no file");
    assert_eq!(
        slips.reports()[0].message,
        "could not open configuration file \"/no/such/file\": No such file or directory"
    );
    let path = std::env::temp_dir().join(format!("pgpool-hba-{}", std::process::id()));
    std::fs::write(&path, "hostssl all all all md5\nlocal samegroup +g md5 pamservice=x\n").expect("write");
    let (rules, remarks, sources) = Rules::load(&path, false).expect("in order");
    let remarks: Vec<_> = remarks.reports().iter().map(|report| report.message.as_str()).collect();
    assert_eq!(
        remarks,
        [
            "hostssl record cannot match because SSL is disabled",
            "group tokens \"samegroup\" and \"samerole\" are not supported by Pgpool-II",
            "group token \"+\" is not supported by Pgpool-II",
            "pamservice authentication option can only be configured for authentication method \"pam\"",
        ]
    );
    std::fs::remove_file(&path).expect("clean up");
    let handed_on = Sources::from_bytes(&sources.to_bytes()).expect("bytes");
    assert_eq!(Rules::from_sources(&path, false, &handed_on), Ok(rules));
}

#[test]
fn the_first_rule_that_fits_decides() {
    let text = "local all postgres trust\n\
                local sameuser all md5\n\
                local \"all\" u reject\n\
                hostssl all all 10.0.0.0/8 scram-sha-256\n\
                hostnossl db a,b 10.0.0.0 255.0.0.0 password\n\
                host samegroup,db c all trust\n\
                host x,samegroup,db c all cert\n\
                host db u,+g all md5\n\
                host db +g,v all md5\n\
                host db w samenet trust\n\
                host db w samehost reject\n\
                host db n some.host reject\n";
    for (client, expected) in [
        ("[local] postgres x", Some((1, "trust"))),
        ("[local] u u", Some((2, "md5"))),
        ("[local] u all", Some((3, "reject"))),
        ("[local] u db", None),
        ("10.1.2.3+tls x y", Some((4, "scram-sha-256"))),
        ("10.1.2.3 a db", Some((5, "password"))),
        ("10.1.2.3 b db", Some((5, "password"))),
        ("10.1.2.3 a other", None),
        ("11.1.2.3 c db", None),
        ("11.1.2.3 c x", Some((7, "cert"))),
        ("::ffff:10.1.2.3 a db", None),
        ("11.1.2.3 u db", Some((8, "md5"))),
        ("11.1.2.3 v db", None),
        ("192.168.1.77 w db", Some((10, "trust"))),
        ("192.168.2.77 w db", None),
        ("1.2.3.4 n db", None),
    ] {
        assert_eq!(rule(text, client), expected, "{client}");
    }
}

#[test]
fn files_are_included_in_any_field() {
    let others =
        [("/etc/sub/users", "a b\nc, @more # and so on\n"), ("/etc/sub/more", "\"all\" d"), ("/loop", "@loop")];
    let text = "local db @sub/users trust\nlocal all @\"/loop\" md5\n";
    let slips = read_with(text, &others).expect_err("a loop");
    assert!(slips.reports()[0].message.ends_with("files include each other too deeply"), "{slips:?}");
    let rules = read_with("local db @sub/users trust", &others).expect("in order");
    let user = |user| Client { address: None, tls: false, user, database: b"db" };
    for (name, expected) in
        [(&b"a"[..], true), (b"c", true), (b"d", true), (b"all", true), (b"e", false), (b"@more", false)]
    {
        assert_eq!(rules.find(user(name), &mut Nameless).is_some(), expected, "{name:?}");
    }
}

#[test]
fn options_are_kept() {
    let text = "local all all pam pamservice=login pam_use_hostname=1 backend_use_passwd=1\n\
                host all all all ldap ldapserver=\"a b\" ldaptls=1 ldapbasedn=\"dc=x, dc=y\" backend_use_passwd=1 ldapbindpasswd=hidden\n";
    let rules = read(text).expect("in order");
    let Method::Pam(pam) = &rules.records[0].method else { panic!("pam") };
    assert_eq!((pam.service.as_str(), pam.use_hostname, pam.use_for_servers), ("login", true, true));
    let Method::Ldap(ldap) = &rules.records[1].method else { panic!("ldap") };
    assert_eq!((ldap.server.as_str(), ldap.base_dn.as_str()), ("a b", "dc=x, dc=y"));
    assert!(ldap.tls && ldap.use_for_servers && ldap.bind_password.bytes() == b"hidden");
    assert!(!format!("{rules:?}").contains("hidden"));
}

proptest! {
    #[test]
    fn no_file_does_harm(text in "((local|host|hostssl|x|\"|,|#|@|@f|all|trust|ldap|ldapurl=ldap://|1\\.2|/|::|255| |\n|=|\\PC){1,3}){0,40}") {
        let _ = read_with(&text, &[("/etc/f", "@f x")]);
    }

    #[test]
    fn quoted_names_are_taken_as_they_are(name in "[^\n\\x00]{1,40}") {
        prop_assume!(name.len() < 100);
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let rules = read(&format!("local {quoted} {quoted} reject")).expect("in order");
        let client = |user: &'static [u8]| Client { address: None, tls: false, user, database: name.as_bytes() };
        let own = Client { user: name.as_bytes(), ..client(b"") };
        prop_assert!(rules.find(own, &mut Nameless).is_some());
        prop_assert!(rules.find(client(b"\x01other"), &mut Nameless).is_none());
    }
}
