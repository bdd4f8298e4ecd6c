//! Who trusts whom how far.

use super::*;

#[test]
fn a_server_is_trusted_as_far_as_the_mode_says() {
    let files = Files::new("trust");
    let server = server(&files);
    let other = certificate("db.example").0;
    let other = files.write("other.crt", &other.to_pem().unwrap());
    let client = |mode, authority: &str| Settings {
        backend_sslmode: mode,
        backend_sslrootcert: authority.to_owned(),
        ..Settings::default()
    };
    let own = server.ssl_cert.clone();
    let accepted = |client: &Settings, host: &str| connect(&server, client, host).1.map(|stream| stream.is_tls());
    assert!(accepted(&client(BackendSslmode::Require, ""), "elsewhere").unwrap());
    assert!(accepted(&client(BackendSslmode::VerifyCa, &own), "elsewhere").unwrap());
    assert!(accepted(&client(BackendSslmode::VerifyFull, &own), "db.example").unwrap());
    let refused = accepted(&client(BackendSslmode::VerifyFull, &own), "elsewhere").unwrap_err().to_string();
    assert!(refused.starts_with("certificate verify failed") && refused.contains("hostname mismatch"), "{refused}");
    let refused = accepted(&client(BackendSslmode::VerifyCa, &other), "db.example").unwrap_err().to_string();
    assert!(refused.starts_with("certificate verify failed"), "{refused}");
    // What is to be verified by a file that is not there is not connected to at all.
    let missing = Connector::new(&client(BackendSslmode::VerifyCa, "/nonexistent")).unwrap_err();
    assert!(missing.message.contains("could not load root certificate file \"/nonexistent\""), "{missing}");
}

#[test]
fn a_wildcard_is_a_whole_label() {
    let files = Files::new("wildcard");
    for (pattern, is_accepted) in [("*.example.com", true), ("db*.example.com", false), ("*1.example.com", false)] {
        let (certificate, key) = certificate(pattern);
        let server = Settings {
            ssl: true,
            ssl_cert: files.write("server.crt", &certificate.to_pem().unwrap()),
            ssl_key: files.write("server.key", &key.private_key_to_pem_pkcs8().unwrap()),
            ..Settings::default()
        };
        let client = Settings {
            backend_sslmode: BackendSslmode::VerifyFull,
            backend_sslrootcert: server.ssl_cert.clone(),
            ..Settings::default()
        };
        assert_eq!(connect(&server, &client, "db1.example.com").1.is_ok(), is_accepted, "{pattern}");
    }
}

#[test]
fn no_weaker_mode_stays_in_the_place_of_a_stricter_one() {
    let with = |mode, ssl| Settings { ssl, backend_sslmode: mode, ..Settings::default() };
    use BackendSslmode::{Auto, Disable, Prefer, Require, VerifyFull};
    for (old, new, is_as_strict) in [
        ((Prefer, false), (VerifyFull, false), false),
        ((Disable, false), (Prefer, false), false),
        ((Auto, true), (Require, true), false),
        ((Require, false), (Require, false), true),
        ((VerifyFull, false), (Require, false), true),
        ((Require, false), (Prefer, false), true),
        ((Disable, false), (Auto, false), true),
        ((Prefer, false), (Auto, true), true),
    ] {
        let old_settings = with(old.0, old.1);
        let connector = Connector::new(&old_settings).unwrap();
        assert_eq!(connector.is_as_strict_as(&with(new.0, new.1)), is_as_strict, "{old:?} {new:?}");
    }
}

#[test]
fn the_mode_follows_the_original_unless_it_is_given() {
    let mode = |ssl, authority: &str, mode| {
        let settings =
            Settings { ssl, ssl_ca_cert: authority.to_owned(), backend_sslmode: mode, ..Settings::default() };
        Connector::new(&settings).map(|connector| connector.mode()).ok()
    };
    let files = Files::new("mode");
    let authority = files.write("ca.crt", &certificate("ca").0.to_pem().unwrap());
    assert_eq!(mode(false, &authority, BackendSslmode::Auto), Some(SslMode::Disable));
    assert_eq!(mode(true, "", BackendSslmode::Auto), Some(SslMode::Prefer));
    assert_eq!(mode(true, &authority, BackendSslmode::Auto), Some(SslMode::VerifyCa));
    assert_eq!(mode(false, "", BackendSslmode::Require), Some(SslMode::Require));
    assert_eq!(mode(true, "", BackendSslmode::Disable), Some(SslMode::Disable));
}

#[test]
fn clients_without_a_good_certificate_are_refused_if_they_show_one() {
    let files = Files::new("client");
    let (certificate, key) = certificate("me");
    let mine = files.write("me.crt", &certificate.to_pem().unwrap());
    let my_key = files.write("me.key", &key.private_key_to_pem_pkcs8().unwrap());
    let server = server(&files);
    let asking = Settings { ssl_ca_cert: mine.clone(), ..server.clone() };
    let with = |certificate: &str, key: &str| Settings {
        backend_sslmode: BackendSslmode::Require,
        backend_sslcert: certificate.to_owned(),
        backend_sslkey: key.to_owned(),
        ..Settings::default()
    };
    let (seen, _client) = connect(&asking, &with(&mine, &my_key), "db.example");
    let seen = seen.unwrap().tls(Session::client_certificate).unwrap().expect("certificate");
    assert_eq!(seen.common_name.as_deref(), Some("me"));
    let (none, _client) = connect(&asking, &with("", ""), "db.example");
    assert!(none.unwrap().tls(Session::client_certificate).unwrap().is_none());
    let (bad, _client) = connect(&asking, &with(&server.ssl_cert, &server.ssl_key), "db.example");
    let bad = bad.unwrap_err().to_string();
    assert!(bad.contains("certificate verify failed"), "{bad}");
}
