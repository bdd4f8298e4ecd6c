//! Certificates, made for each test.

use crate::harness::{Scratch, give_to_server_user};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Who signs, and a directory for what it has signed.
pub struct Authority {
    files: Scratch,
    key: PKey<Private>,
    certificate: X509,
    serial: AtomicU32,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
    pub serial: u32,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = new_key();
        let mut builder = builder(1, name, &key);
        builder.append_extension(BasicConstraints::new().critical().ca().build().expect("constraints")).expect("ca");
        builder.set_issuer_name(&common_name(name)).expect("issuer");
        builder.sign(&key, MessageDigest::sha256()).expect("signed");
        let (files, certificate) = (Scratch::new("authority"), builder.build());
        let authority = Authority { files, key, certificate, serial: AtomicU32::new(1) };
        authority.write("ca.crt", &authority.certificate.to_pem().expect("pem"), 0o644);
        authority
    }

    /// The authority's own certificate.
    pub fn root(&self) -> String {
        self.path("ca.crt")
    }

    pub fn path(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    /// A certificate of this common name, for this machine as a server.
    pub fn issue(&self, name: &str) -> Pair {
        let key = new_key();
        self.sign(name, &key, &["127.0.0.1"], &["localhost"])
    }

    /// The same for host `host` and no other.
    pub fn issue_for(&self, name: &str, host: &str) -> Pair {
        self.sign(name, &new_key(), &[], &[host])
    }

    fn sign(&self, name: &str, key: &PKey<Private>, addresses: &[&str], hosts: &[&str]) -> Pair {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let mut builder = builder(serial, name, key);
        builder.set_issuer_name(self.certificate.subject_name()).expect("issuer");
        let mut names = SubjectAlternativeName::new();
        for address in addresses {
            names.ip(address);
        }
        for host in hosts {
            names.dns(host);
        }
        let names = names.build(&builder.x509v3_context(Some(&self.certificate), None)).expect("names");
        builder.append_extension(names).expect("names");
        builder.sign(&self.key, MessageDigest::sha384()).expect("signed");
        let (certificate, file) = (builder.build().to_pem().expect("pem"), format!("{serial}.key"));
        let key = self.write(&file, &key.private_key_to_pem_pkcs8().expect("pem"), 0o600);
        Pair { certificate: self.write(&format!("{serial}.crt"), &certificate, 0o644), key, serial }
    }

    /// A copy of the key that only a pass phrase opens.
    pub fn encrypt(&self, pair: &Pair, phrase: &str) -> Pair {
        let key = PKey::private_key_from_pem(&fs::read(&pair.key).expect("key")).expect("key");
        let pem = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), phrase.as_bytes()).expect("pem");
        Pair { key: self.write(&format!("{}.encrypted", pair.serial), &pem, 0o600), ..pair.clone() }
    }

    /// As `pair`, with a key that servers can read.
    pub fn for_server(&self, pair: &Pair) -> Pair {
        let key = self.write(&format!("{}.server.key", pair.serial), &fs::read(&pair.key).expect("key"), 0o600);
        give_to_server_user(key.as_ref());
        Pair { key, ..pair.clone() }
    }

    /// A list of revoked certificates.
    pub fn revoke(&self, revoked: &[&Pair]) -> String {
        let line =
            |pair: &&Pair| format!("R\t490101000000Z\t250101000000Z\t{:04X}\tunknown\t/CN=revoked\n", pair.serial);
        self.write("index.txt", revoked.iter().map(line).collect::<String>().as_bytes(), 0o644);
        self.write("crlnumber", b"01\n", 0o644);
        let (database, number) = (self.path("index.txt"), self.path("crlnumber"));
        let text = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {database}\ncrlnumber = {number}\ndefault_md = sha256\n\
             default_crl_days = 30\n"
        );
        let config = self.write("ca.conf", text.as_bytes(), 0o644);
        let key = self.write("ca.key", &self.key.private_key_to_pem_pkcs8().expect("pem"), 0o600);
        let list = self.path("revoked.crl");
        let output = Command::new("openssl")
            .args(["ca", "-config", &config, "-gencrl", "-keyfile", &key, "-cert", &self.root(), "-out", &list])
            .output()
            .expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        list
    }

    pub fn write(&self, name: &str, content: &[u8], mode: u32) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect(name);
        path
    }
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("key")).expect("key")
}

fn builder(serial: u32, name: &str, key: &PKey<Private>) -> X509Builder {
    let mut builder = X509::builder().expect("certificate");
    builder.set_version(2).expect("version");
    builder
        .set_serial_number(&BigNum::from_u32(serial).and_then(|serial| serial.to_asn1_integer()).expect("serial"))
        .expect("serial");
    builder.set_subject_name(&common_name(name)).expect("subject");
    builder.set_pubkey(key).expect("key");
    builder.set_not_before(&Asn1Time::days_from_now(0).expect("time")).expect("time");
    builder.set_not_after(&Asn1Time::days_from_now(2).expect("time")).expect("time");
    builder
}

fn common_name(name: &str) -> openssl::x509::X509Name {
    let mut subject = X509NameBuilder::new().expect("name");
    subject.append_entry_by_text("CN", name).expect("name");
    subject.build()
}
