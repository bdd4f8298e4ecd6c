//! A directory of the test's own: Debian's slapd with an entry for every user of the stage, and some with odd names.

use super::stage::{ENTRIES, METHODS, SECRET, user};
use crate::harness::{Program, Scratch, Service, free_port, give_to_server_user, no_skips, target_dir, wait_for};
use std::fmt::Write;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Where it listens.
pub const HOST: &str = "127.0.0.1";
/// Where the users are.
pub const PEOPLE: &str = "ou=people,dc=example,dc=com";
/// Who may read everything, and its password.
pub const ADMIN: &str = "cn=admin,dc=example,dc=com";
pub const ADMIN_SECRET: &str = "the admin's";
/// Below this name, entries are said to be in another directory: at [`Directory::elsewhere`].
pub const REFERRED: &str = "ou=elsewhere,dc=example,dc=com";
/// A user whose name is special in names and in filters, and who has no other attribute in common with it.
pub const ODD: &str = "o(d)d, *\\";

/// A running slapd.
pub struct Directory {
    pub port: u16,
    pub tls_port: u16,
    /// Where its referrals lead; nobody listens there.
    pub elsewhere: u16,
    _service: Service,
    scratch: Scratch,
}

/// Where `scripts/setup` has unpacked slapd.
fn slapd() -> PathBuf {
    target_dir().join("slapd/bin/slapd")
}

/// Ends the test if there is no slapd.
#[macro_export]
macro_rules! needs_slapd {
    () => {
        if !$crate::auth::directory::is_there() {
            println!("skipped: run scripts/setup --slapd");
            return;
        }
    };
}

/// Whether there is one. Where nothing may be left out, as before a change is taken, there must be.
pub fn is_there() -> bool {
    let is_there = slapd().exists();
    assert!(is_there || !no_skips(), "no slapd, and PGPOOL_TEST_NO_SKIPS is set: run scripts/setup --slapd");
    is_there
}

impl Directory {
    /// Fills and starts it.
    pub fn start() -> Directory {
        let scratch = Scratch::new("slapd");
        let here = scratch.path().to_owned();
        let [port, tls_port, elsewhere] = [(); 3].map(|()| free_port());
        let write = |name: &str, content: &str| {
            fs::write(here.join(name), content).expect(name);
            give_to_server_user(&here.join(name));
        };
        let files = |name: &str| here.join(name).display().to_string();
        fs::create_dir(here.join("data")).expect("data");
        make_certificate(&files("server.key"), &files("server.crt"));
        give_to_server_user(&here.join("server.key"));
        let root = target_dir().join("slapd/root");
        write("slapd.conf", &configuration(&root.display().to_string(), &here.display().to_string()));
        write("people.ldif", &people(elsewhere));
        let arguments = ["-T", "add", "-f", &files("slapd.conf"), "-l", &files("people.ldif")];
        Program::new(slapd()).args(arguments).run().succeeded();
        for file in fs::read_dir(here.join("data")).expect("data").flatten() {
            give_to_server_user(&file.path());
        }
        give_to_server_user(&here.join("data"));
        let urls = format!("ldap://{HOST}:{port} ldaps://{HOST}:{tls_port}");
        let service = Service::start(
            &slapd(),
            &["-f", &files("slapd.conf"), "-h", &urls, "-d", "stats"],
            &here.join("slapd.log"),
        );
        let directory = Directory { port, tls_port, elsewhere, _service: service, scratch };
        wait_for("slapd to listen", || [port, tls_port].iter().all(|port| TcpStream::connect((HOST, *port)).is_ok()));
        directory
    }

    /// Who has signed its certificate.
    pub fn authority(&self) -> String {
        self.scratch.path().join("server.crt").display().to_string()
    }
}

fn make_certificate(key: &str, certificate: &str) {
    let subject = ["-subj", "/CN=slapd", "-addext", &format!("subjectAltName=IP:{HOST}")].map(str::to_owned);
    let files = ["-keyout", key, "-out", certificate, "-days", "2"].map(str::to_owned);
    let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes"].map(str::to_owned);
    let arguments: Vec<String> = [&make[..], &files, &subject].concat();
    Program::new("openssl").args(arguments).run().succeeded();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("permissions");
}

/// It takes names without a password for nobody and says yes, as the protocol has it and many directories do.
fn configuration(root: &str, here: &str) -> String {
    let schemas =
        ["core", "cosine", "inetorgperson"].map(|name| format!("include {root}/etc/ldap/schema/{name}.schema\n"));
    format!(
        "{}modulepath {root}/usr/lib/ldap\nmoduleload back_mdb\n\
         pidfile {here}/slapd.pid\nargsfile {here}/slapd.args\n\
         TLSCACertificateFile {here}/server.crt\nTLSCertificateFile {here}/server.crt\n\
         TLSCertificateKeyFile {here}/server.key\n\
         allow bind_anon_cred bind_anon_dn\n\
         database mdb\nsuffix \"dc=example,dc=com\"\nrootdn \"{ADMIN}\"\nrootpw \"{ADMIN_SECRET}\"\n\
         directory {here}/data\n\
         access to attrs=userPassword by anonymous auth by * none\n\
         access to dn.subtree=\"ou=hidden,dc=example,dc=com\" by anonymous auth by * none\n\
         access to * by * read\n",
        schemas.concat()
    )
}

fn people(elsewhere: u16) -> String {
    let mut ldif = "dn: dc=example,dc=com\nobjectClass: domain\ndc: example\n\n".to_owned();
    for unit in ["people", "hidden", "twins"] {
        let _ = write!(ldif, "dn: ou={unit},dc=example,dc=com\nobjectClass: organizationalUnit\nou: {unit}\n\n");
    }
    let _ = write!(
        ldif,
        "dn: {REFERRED}\nobjectClass: referral\nobjectClass: extensibleObject\nou: elsewhere\n\
         ref: ldap://{HOST}:{elsewhere}/{REFERRED}\n\n"
    );
    let mut person = |name: &str, uid: &str, unit: &str, password: &str| {
        let _ = write!(
            ldif,
            "dn: {name},ou={unit},dc=example,dc=com\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: x\n\
             mail: {uid}@example.com\nuserPassword: {password}\n\n"
        );
    };
    for method in METHODS {
        for kind in ENTRIES {
            let user = user(method, kind);
            person(&format!("uid={user}"), &user, "people", SECRET);
        }
    }
    person("uid=o(d)d\\, *\\\\", ODD, "people", SECRET);
    person("uid=secretive", "secretive", "hidden", SECRET);
    person("sn=x+displayName=one", "twin", "twins", SECRET);
    person("sn=x+displayName=two", "twin", "twins", SECRET);
    ldif
}
