//! SCRAM: the vector of RFC 7677, against an independent client, and hostile messages from either side (auth 14).

use pgpool::auth::scram::{Challenge, Hello, LoginKeys, Mechanism, Verifier, nonce, own_verifier};
use pgpool::auth::{Credential, base64};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

const SALT: &[u8] = b"a salt of 16 by.";
const END_POINT: &[u8] = b"hash of a certificate";

fn verifier() -> Verifier {
    LoginKeys::derive(b"secret", SALT, 4096).verifier()
}

/// Challenges as for a known user without TLS.
fn challenge(first: &[u8]) -> Result<(String, Challenge), String> {
    Challenge::new(first, Mechanism::Plain, (verifier(), true), "servernonce", None)
        .map_err(|report| report.to_string())
}

/// A whole exchange between our client and our server. What it came to: refused by whom with what, or passed.
fn exchange(credential: &Credential, known: bool, end_points: [Option<&[u8]>; 2]) -> Result<LoginKeys, String> {
    let [client_end, server_end] = end_points;
    let offered: &[u8] =
        if server_end.is_some() { b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0" } else { b"SCRAM-SHA-256\0\0" };
    let text = |report: pgpool::report::Report| report.to_string();
    let (mechanism, first, hello) = Hello::new(offered, &nonce(), client_end).map_err(text)?;
    let (answer, challenge) =
        Challenge::new(first.as_bytes(), mechanism, (verifier(), known), &nonce(), server_end).map_err(text)?;
    let (last, verify) = hello.prove(answer.as_bytes(), credential).map_err(text)?;
    let proved = challenge.check(last.as_bytes()).map_err(text)?.ok_or("wrong proof")?;
    verify.check(proved.message.as_bytes()).map_err(text)?;
    Ok(proved.keys)
}

#[test]
fn the_vector_of_rfc_7677() {
    let salt = base64::decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").expect("salt");
    let verifier = LoginKeys::derive(b"pencil", &salt, 4096).verifier();
    let (answer, challenge) = Challenge::new(
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        Mechanism::Plain,
        (verifier, true),
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        None,
    )
    .expect("a challenge");
    assert_eq!(answer, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let last =
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let proved = challenge.check(last).expect("in order").expect("right");
    assert_eq!(proved.message, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn the_example_of_the_reference() {
    let salt: Vec<u8> = (0..16).collect();
    let verifier = LoginKeys::derive(b"secret", &salt, 4096).verifier();
    let (client, server) = ("clientnonceclientnonce00", "servernonceservernonce00");
    let first = format!("n,,n=,r={client}");
    let (answer, challenge) =
        Challenge::new(first.as_bytes(), Mechanism::Plain, (verifier, true), server, None).expect("a challenge");
    let (_, ours, hello) = Hello::new(b"SCRAM-SHA-256\0\0", client, None).expect("offered");
    assert_eq!(ours, first);
    let (last, verify) = hello.prove(answer.as_bytes(), &Credential::password("secret")).expect("a proof");
    assert!(last.ends_with(",p=5xlcFFWWcSXSuAHbGUzynZ60aEXD1/020SsqHxycahI="), "{last}");
    let proved = challenge.check(last.as_bytes()).expect("in order").expect("right");
    assert_eq!(proved.message, "v=Ktims3vfMPgdyp6egar5872+yXp1SRno03rv6axjSpM=");
    verify.check(proved.message.as_bytes()).expect("the server's signature");
}

#[test]
fn an_independent_client_gets_in_with_the_right_password_only() {
    for (password, right) in [("secret", true), ("Secret", false), ("", false)] {
        let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unrequested());
        let (answer, challenge) = challenge(client.message()).expect("a challenge");
        client.update(answer.as_bytes()).expect("the client goes on");
        let proved = challenge.check(client.message()).expect("in order");
        assert_eq!(proved.is_some(), right, "{password}");
        if let Some(proved) = proved {
            client.finish(proved.message.as_bytes()).expect("the client believes us");
        }
    }
}

#[test]
fn an_independent_client_binds_to_the_channel() {
    let binding = || ChannelBinding::tls_server_end_point(END_POINT.to_vec());
    for (seen, right) in [(END_POINT, true), (&b"another certificate"[..], false)] {
        let mut client = ScramSha256::new(b"secret", binding());
        let (answer, challenge) =
            Challenge::new(client.message(), Mechanism::Plus, (verifier(), true), &nonce(), Some(seen)).expect("first");
        client.update(answer.as_bytes()).expect("the client goes on");
        assert_eq!(challenge.check(client.message()).is_ok(), right);
    }
}

#[test]
fn the_client_s_proof_gives_the_key_for_servers() {
    let keys = exchange(&Credential::password("secret"), true, [None, None]).expect("the password");
    assert!(keys == LoginKeys::derive(b"secret", SALT, 4096));
    let passed_through = Credential::Keys(Box::new(keys));
    exchange(&passed_through, true, [None, None]).expect("the keys alone");
    exchange(&passed_through, true, [Some(END_POINT), Some(END_POINT)]).expect("the keys alone, bound");
    let elsewhere = Credential::Keys(Box::new(LoginKeys::derive(b"secret", b"another salt", 4096)));
    let refused = exchange(&elsewhere, true, [None, None]).expect_err("another verifier");
    assert!(refused.contains("not the one that the server has"), "{refused}");
}

#[test]
fn wrong_passwords_unknown_users_and_no_password_are_refused() {
    let wrong = |credential: Credential, known| exchange(&credential, known, [None, None]).expect_err("refused");
    assert_eq!(wrong(Credential::password("x"), true), "wrong proof");
    assert_eq!(wrong(Credential::password("secret"), false), "wrong proof");
    assert!(wrong(Credential::None, true).contains("valid password not found"));
}

#[test]
fn a_list_that_was_cut_is_noticed() {
    // The server can bind, its list came without PLUS: our client says that it could have.
    let (mechanism, first, _) = Hello::new(b"SCRAM-SHA-256\0\0", &nonce(), Some(END_POINT)).expect("offered");
    assert_eq!((mechanism, &first[..3]), (Mechanism::Plain, "y,,"));
    let refused = Challenge::new(first.as_bytes(), mechanism, (verifier(), true), &nonce(), Some(END_POINT));
    assert!(refused.expect_err("a downgrade").to_string().contains("negotiation error"));
    assert!(Hello::new(b"SCRAM-SHA-1\0\0", &nonce(), None).is_err() && Hello::new(b"", &nonce(), None).is_err());
    // Names behind ours do no harm.
    assert!(Hello::new(b"X\0SCRAM-SHA-256\0OTHER\0\0", &nonce(), None).is_ok());
}

#[test]
fn slips_of_clients_in_their_first_message() {
    for (first, text) in [
        ("", "The message is empty."),
        ("n,,n=,r=a\0", "Message length does not match input length."),
        ("x,,n=,r=abc", "Unexpected channel-binding flag \"x\"."),
        ("nn=,r=abc", "Comma expected, but found character \"n\"."),
        ("n,a=me,n=,r=abc", "client uses authorization identity, but it is not supported"),
        ("n,x,n=,r=abc", "Unexpected attribute \"x\" in client-first-message."),
        ("p=tls-unique,,n=,r=abc", "client requires SCRAM channel binding, but it is not supported"),
        ("n,,m=x,n=,r=abc", "client requires an unsupported SCRAM extension"),
        ("n,,r=abc", "Expected attribute \"n\" but found \"r\"."),
        ("n,,n", "Expected character \"=\" for attribute \"n\"."),
        ("n,,n=", "Expected attribute \"r\" but found \"\"."),
        ("n,,n=,r=", "non-printable characters in SCRAM nonce"),
        ("n,,n=,r=a b", "non-printable characters in SCRAM nonce"),
        ("n,,n=,r=\u{e4}", "non-printable characters in SCRAM nonce"),
        ("n,,n=,r=abc,1=x", "Attribute expected, but found invalid character \"1\"."),
        // A final message where a first one is due, and the other way round below.
        ("c=biws,r=abcservernonce,p=AAAA", "Unexpected channel-binding flag \"c\"."),
    ] {
        let refused = challenge(first.as_bytes()).expect_err(first);
        assert!(refused.contains(text), "{first}: {refused}");
    }
    assert!(challenge(b"y,,n=anybody,r=abc,x=ignored").is_ok());
}

#[test]
fn slips_of_clients_in_their_last_message() {
    let proof = base64::encode(&[0; 32]);
    for (last, text) in [
        ("".to_owned(), "The message is empty."),
        ("n,,n=,r=abc".to_owned(), "Expected attribute \"c\" but found \"n\"."),
        (format!("c=eSws,r=abcservernonce,p={proof}"), "unexpected SCRAM channel-binding attribute"),
        (format!("c=biws,r=abc,p={proof}"), "Nonce does not match."),
        (format!("c=biws,r=abcservernonceX,p={proof}"), "Nonce does not match."),
        ("c=biws,r=abcservernonce".to_owned(), "Expected attribute \"p\" but found \"\"."),
        ("c=biws,r=abcservernonce,p=AAAA".to_owned(), "Malformed proof in client-final-message."),
        ("c=biws,r=abcservernonce,p=%".to_owned(), "Malformed proof in client-final-message."),
        (format!("c=biws,r=abcservernonce,p={proof},x=y"), "Garbage found at the end of client-final-message."),
        (format!("c=biws,r=abcservernonce,p={proof},"), "Garbage found at the end of client-final-message."),
    ] {
        let (_, challenge) = challenge(b"n,,n=,r=abc").expect("a challenge");
        let refused = challenge.check(last.as_bytes()).expect_err(&last).to_string();
        assert!(refused.contains(text), "{last}: {refused}");
    }
}

#[test]
fn slips_of_servers() {
    let hello = || Hello::new(b"SCRAM-SHA-256\0\0", "ours", None).expect("offered").2;
    let prove = |first: &str| hello().prove(first.as_bytes(), &Credential::password("secret"));
    for (first, text) in [
        ("", "The message is empty."),
        ("e=other-error", "error received from server in SCRAM exchange: other-error"),
        ("r=ours,s=AAAA,i=1", "does not continue ours"),
        ("r=our,s=AAAA,i=1", "does not continue ours"),
        ("r=theirs,s=AAAA,i=1", "does not continue ours"),
        ("r=ours\u{7f},s=AAAA,i=1", "non-printable"),
        ("r=oursX,s=,i=1", "salt is not in base64"),
        ("r=oursX,s=A,i=1", "salt is not in base64"),
        ("r=oursX,s=AAAA,i=0", "not a positive number"),
        ("r=oursX,s=AAAA,i=-1", "not a positive number"),
        ("r=oursX,s=AAAA,i=99999999999", "not a positive number"),
        ("r=oursX,s=AAAA,i=2147483647", "asks for 2147483647 iterations"),
        ("r=oursX,s=AAAA", "Expected attribute \"i\""),
        ("v=AAAA", "Expected attribute \"r\""),
    ] {
        let refused = prove(first).expect_err(first).to_string();
        assert!(refused.contains(text), "{first}: {refused}");
    }
    for last in ["", "v=", "v=AAAA", "e=invalid-proof", "r=oursX", "v=?"] {
        let (_, verify) = prove("r=oursX,s=AAAA,i=1").expect("a proof");
        assert!(verify.check(last.as_bytes()).is_err(), "{last}");
    }
}

/// Something like a message: attributes, well-formed or not.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"n,,n=,r=".to_vec()),
        Just(b"c=biws".to_vec()),
        Just(b",r=abcservernonce".to_vec()),
        Just(b",p=".to_vec()),
        Just(b"r=ours".to_vec()),
        Just(b",s=AAAA".to_vec()),
        Just(b",i=1".to_vec()),
        Just(b"v=".to_vec()),
        Just(b",".to_vec()),
        Just(b"=".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_message_is_too_strange(first in message(), last in message()) {
        let _ = challenge(&first);
        let (_, challenge) = challenge(b"n,,n=,r=abc").expect("a challenge");
        prop_assert!(!matches!(challenge.check(&last), Ok(Some(_))));
        let hello = Hello::new(b"SCRAM-SHA-256\0\0", "ours", None).expect("offered").2;
        if let Ok((_, verify)) = hello.prove(&first, &Credential::password("secret")) {
            prop_assert!(verify.check(&last).is_err());
        }
    }

    #[test]
    fn verifiers_are_read_as_written(salt in prop::collection::vec(any::<u8>(), 1..40), iterations in 1u32..3) {
        let verifier = LoginKeys::derive(b"x", &salt, iterations).verifier();
        prop_assert_eq!(Verifier::parse(verifier.to_string().as_bytes()), Some(verifier));
    }

    #[test]
    fn no_text_is_too_strange_for_a_verifier(text in "SCRAM-SHA-256\\$[0-9:$=A-Za-z+/ -]{0,60}") {
        let _ = Verifier::parse(text.as_bytes());
    }
}

#[test]
fn unknown_users_are_challenged_like_known_ones() {
    let ask = |password: Option<&[u8]>| {
        let user = (own_verifier(b"user", password, 4096), password.is_some());
        Challenge::new(b"n,,n=,r=abc", Mechanism::Plain, user, "nonce", None).expect("a challenge").0
    };
    assert_eq!(ask(None), ask(Some(b"secret")));
}
