//! Certificates and keys: read, proved, handed to workers.

use super::*;

#[test]
fn material_and_back() {
    let files = Files::new("material");
    let mut settings = server(&files);
    settings.ssl_ca_cert.clone_from(&settings.ssl_cert);
    settings.ssl_prefer_server_ciphers = true;
    settings.ssl_min_protocol_version = "TLSv1.2".to_owned();
    settings.ssl_max_protocol_version = "TLSv1.3".to_owned();
    settings.ssl_ca_cert_dir = "/nonexistent".to_owned();
    let material = Material::read(&settings).unwrap();
    assert_eq!(Material::from_bytes(&material.to_bytes()), Some(material));
    assert_eq!(Material::from_bytes(&Secret::default()), None);
}

#[test]
fn workers_use_what_the_parent_has_proved() {
    let files = Files::new("proved");
    let settings = server(&files);
    let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).unwrap();
    let mut parent = Front::new().unwrap();
    let mut worker = parent.clone();
    assert!(worker.acceptor(&shared).is_none(), "nothing is published");
    parent.renew(&Material::read(&settings).unwrap(), &shared).unwrap();
    // Whatever has become of the files, and of those that were no good.
    for file in [&settings.ssl_cert, &settings.ssl_key] {
        fs::write(file, "overwritten").unwrap();
    }
    let told = Material::read(&settings).map(drop).unwrap_err().message;
    assert!(told.starts_with("could not load private key file"), "{told}");
    let mut forked = parent.clone();
    let made = |front: &mut Front| {
        front
            .acceptor(&shared)
            .unwrap()
            .ssl()
            .unwrap()
            .certificate()
            .unwrap()
            .digest(MessageDigest::sha256())
            .unwrap()
            .to_vec()
    };
    assert_eq!(made(&mut worker), made(&mut parent));
    assert_eq!(made(&mut forked), made(&mut parent));
}

#[test]
fn nobody_is_asked_for_the_pass_phrase_of_a_key_for_servers() {
    let files = Files::new("server-phrase");
    let (certificate, key) = certificate("me");
    let pem = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
    let settings = Settings {
        backend_sslmode: BackendSslmode::Require,
        backend_sslcert: files.write("me.crt", &certificate.to_pem().unwrap()),
        backend_sslkey: files.write("me.key", &pem),
        ..Settings::default()
    };
    let told = Connector::new(&settings).expect_err("refused").message;
    assert!(told.ends_with("it requires a passphrase, which is not supported here"), "{told}");
}

#[test]
fn an_encrypted_key_is_opened_by_its_pass_phrase_only() {
    let files = Files::new("phrase");
    let mut settings = server(&files);
    let key = PKey::private_key_from_pem(&fs::read(&settings.ssl_key).unwrap()).unwrap();
    let pem = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
    settings.ssl_key = files.write("encrypted.key", &pem);
    let told = acceptor(&settings).unwrap_err().message;
    assert!(told.ends_with("cannot be reloaded because it requires a passphrase"), "{told}");
    settings.ssl_passphrase_command = "not run here".to_owned();
    let mut material = Material::read(&settings).unwrap();
    assert!(material.is_locked() && Acceptor::new(&material, &[0; 80]).is_err());
    let told = material.unlock(&Secret::new(*b"wrong")).unwrap_err().message;
    assert!(told.starts_with("could not load private key file"), "{told}");
    // What is longer than OpenSSL takes is not cut.
    let told = material.unlock(&Secret::new(vec![b'x'; 2000])).unwrap_err().message;
    assert!(told.ends_with("is too long"), "{told}");
    material.unlock(&Secret::new(*b"secret")).unwrap();
    Acceptor::new(&Material::from_bytes(&material.to_bytes()).unwrap(), &[0; 80]).unwrap();
}

#[test]
fn what_is_wrong_with_the_files_is_told() {
    let files = Files::new("files");
    let good = server(&files);
    let refused = |change: &dyn Fn(&mut Settings)| {
        let mut settings = good.clone();
        change(&mut settings);
        acceptor(&settings).expect_err("refused").message
    };
    let told = refused(&|settings| settings.ssl_cert = "/nonexistent".to_owned());
    assert!(told.starts_with("could not load server certificate file \"/nonexistent\": "), "{told}");
    // What may never end, or is no file.
    for file in ["/dev/zero", "/"] {
        let told = refused(&|settings| settings.ssl_cert = file.to_owned());
        assert!(told.ends_with("it is not a regular file"), "{told}");
        let told = refused(&|settings| settings.ssl_crl_file = file.to_owned());
        assert!(told.ends_with("it is not a regular file"), "{told}");
    }
    let told = refused(&|settings| settings.ssl_key = "/nonexistent".to_owned());
    assert_eq!(told, "could not access private key file \"/nonexistent\": No such file or directory (os error 2)");
    let other = files.write("other.key", &certificate("x").1.private_key_to_pem_pkcs8().unwrap());
    let told = refused(&|settings| settings.ssl_key.clone_from(&other));
    assert!(told.contains("key values mismatch"), "{told}");
    let told = refused(&|settings| settings.ssl_ecdh_curve = "no-such-curve".to_owned());
    assert_eq!(told, "ECDH: unrecognized curve name: no-such-curve");
    let told = refused(&|settings| settings.ssl_ciphers = "no-such-cipher".to_owned());
    assert!(told.starts_with("ssl_ciphers = 'no-such-cipher' is not accepted"), "{told}");
    let told = refused(&|settings| settings.ssl_min_protocol_version = "TLSv9".to_owned());
    assert_eq!(told, "ssl_min_protocol_version = 'TLSv9' is no version of TLS");
    let told = refused(&|settings| settings.ssl_crl_file = "/nonexistent".to_owned());
    assert!(told.starts_with("could not load SSL certificate revocation list file \"/nonexistent\""), "{told}");
    let groups = Settings { ssl_ecdh_curve: "X25519:prime256v1".to_owned(), ..good.clone() };
    acceptor(&groups).unwrap();
}
