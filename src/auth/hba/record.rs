//! One line to one rule (auth 3.3).

use super::address::{Address, mask, numeric};
use super::method::Method;
use super::token::{Line, Token};
use crate::report::{Report, Result, Severity};

/// The kinds of connections a rule is for (auth 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Unix sockets.
    Local,
    /// TCP.
    Host,
    /// TCP with TLS.
    HostSsl,
    /// TCP without TLS.
    HostNoSsl,
}

/// What a rule asks of the client's certificate, beside its method; PostgreSQL's option `clientcert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCert {
    /// Nothing.
    #[default]
    NotAsked,
    /// There is one.
    VerifyCa,
    /// Its common name is the user's.
    VerifyFull,
}

impl ClientCert {
    /// Takes the option's value.
    fn read(value: &str, connection: Connection, method: &Method) -> Result<Self> {
        if connection != Connection::HostSsl {
            return Err(Report::log_line("clientcert can only be configured for \"hostssl\" rows"));
        }
        match value {
            "verify-full" => Ok(Self::VerifyFull),
            "verify-ca" if *method == Method::Cert => {
                let text = "clientcert only accepts \"verify-full\" when using \"cert\" authentication";
                Err(Report::log_line(text))
            }
            "verify-ca" => Ok(Self::VerifyCa),
            _ => Err(Report::log_line(format!("invalid value for clientcert: \"{value}\""))),
        }
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its line in the file.
    pub line: usize,
    /// Which connections it is for.
    pub connection: Connection,
    /// Which clients; [`Address::All`] for `local`.
    pub address: Address,
    /// What they must do.
    pub method: Method,
    /// What certificate they must have for that.
    pub client_cert: ClientCert,
    pub(super) databases: Vec<Token>,
    pub(super) users: Vec<Token>,
}

/// The fields of a line, one after another.
struct Fields(std::vec::IntoIter<Vec<Token>>);

impl Fields {
    fn next(&mut self, what: &str) -> Result<Vec<Token>> {
        self.0.next().ok_or_else(|| Report::log_line(format!("end-of-line before {what}")))
    }

    /// The next field, of one token.
    fn single(&mut self, what: &str, multiple: Report) -> Result<Token> {
        match <[Token; 1]>::try_from(self.next(what)?) {
            Ok([token]) => Ok(token),
            Err(_) => Err(multiple),
        }
    }
}

fn multiple(what: &str, hint: &str) -> Report {
    let report = Report::log_line(format!("multiple values specified for {what}"));
    if hint.is_empty() { report } else { report.hint(hint) }
}

impl Record {
    /// Reads a line. Remarks go to `remark`; `ssl`: whether clients can use TLS.
    pub(super) fn parse(line: Line, ssl: bool, mut remark: impl FnMut(Report)) -> Result<Self> {
        let mut fields = Fields(line.fields.into_iter());
        let kind = fields.single("", multiple("connection type", "Specify exactly one connection type per line."))?;
        let connection = match kind.text.as_slice() {
            b"local" => Connection::Local,
            b"host" => Connection::Host,
            b"hostssl" => Connection::HostSsl,
            b"hostnossl" => Connection::HostNoSsl,
            _ => return Err(Report::log_line(format!("invalid connection type \"{kind}\""))),
        };
        if connection == Connection::HostSsl && !ssl {
            let text = "hostssl record cannot match because SSL is disabled";
            remark(Report::log_line(text).hint("Set ssl = on in pgpool.conf."));
        }
        let databases = fields.next("database specification")?;
        let users = fields.next("role specification")?;
        let remarks = remarks_on(&databases, &users);
        let address = if connection == Connection::Local { Address::All } else { address(&mut fields)? };
        let method = fields.single(
            "authentication method",
            multiple("authentication type", "Specify exactly one authentication type per line."),
        )?;
        let mut method = Method::new(&method)?;
        // Who is meant by such a line to stay out comes in by a later one.
        let lets_in_more = method == Method::Reject;
        for report in remarks {
            remark(if lets_in_more { Report { severity: Severity::Warning, ..report } } else { report });
        }
        let mut client_cert = ClientCert::default();
        let mut follows_password = false;
        for (at, option) in fields.0.flatten().enumerate() {
            if follows_password && !Method::knows(&option) {
                return Err(rest_of_password(at + 1));
            }
            follows_password |= option.text.starts_with(b"ldapbindpasswd");
            if let Some(value) = option.to_string().strip_prefix("clientcert=") {
                client_cert = ClientCert::read(value, connection, &method)?;
            } else if let Some(report) = method.set(&option)? {
                remark(report);
            }
        }
        method.check()?;
        Ok(Self { line: line.number, connection, address, method, client_cert, databases, users })
    }
}

/// What there is to say of databases and users of which fewer are meant than it seems.
fn remarks_on(databases: &[Token], users: &[Token]) -> Vec<Report> {
    let mut remarks = Vec::new();
    let mut remark = |text: &str, detail: &str| remarks.push(Report::log_line(text).detail(detail));
    let no_match = "The line does not match once such a token is reached.";
    if databases.iter().any(|token| token.is("samegroup") || token.is("samerole")) {
        remark("group tokens \"samegroup\" and \"samerole\" are not supported by Pgpool-II", no_match);
    }
    if users.iter().any(is_group_of_users) {
        remark("group token \"+\" is not supported by Pgpool-II", no_match);
    }
    if databases.iter().chain(users).any(|token| token.text.len() > 1 && token.text[0] == b'/') {
        remark(
            "regular expressions are not supported for databases and users",
            "What begins with a slash is taken for a name with a slash in it.",
        );
    }
    remarks
}

/// What is no option, behind a password, may be the rest of it: it is not shown.
fn rest_of_password(place: usize) -> Report {
    Report::log_line(format!("option {place} of the line, behind ldapbindpasswd, is not understood"))
        .detail("It is not shown, since it may be a part of the password.")
        .hint("Put a password with blanks, commas or \"#\" in it into double quotes.")
}

/// Whether the token names a group, which nobody here knows the members of.
pub(super) fn is_group_of_users(token: &Token) -> bool {
    !token.quoted && token.text.len() > 1 && token.text[0] == b'+'
}

fn address(fields: &mut Fields) -> Result<Address> {
    let token =
        fields.single("IP address specification", multiple("host address", "Specify one address range per line."))?;
    for (keyword, address) in [("all", Address::All), ("samehost", Address::SameHost), ("samenet", Address::SameNet)] {
        if token.is(keyword) {
            return Ok(address);
        }
    }
    let text = token.to_string();
    let (host, bits) = text.split_once('/').map_or((text.as_str(), None), |(host, bits)| (host, Some(bits)));
    match (numeric(host), bits) {
        (Some(ip), Some(bits)) => {
            let bits = Some(bits).filter(|bits| bits.bytes().all(|byte| byte.is_ascii_digit()));
            let mask = bits.and_then(|bits| bits.parse().ok()).and_then(|bits| mask(ip, bits));
            let mask = mask.ok_or_else(|| Report::log_line(format!("invalid CIDR mask in address \"{text}\"")))?;
            Ok(Address::Network(ip, mask))
        }
        (Some(ip), None) => separate_mask(ip, fields),
        (None, Some(_)) => {
            Err(Report::log_line(format!("specifying both host name and CIDR mask is invalid: \"{text}\"")))
        }
        (None, None) => Ok(Address::Host(text)),
    }
}

fn separate_mask(ip: std::net::IpAddr, fields: &mut Fields) -> Result<Address> {
    let token = fields.single("netmask specification", multiple("netmask", "")).map_err(|report| {
        if report.message.starts_with("end-of-line") {
            report.hint("Specify an address range in CIDR notation, or provide a separate netmask.")
        } else {
            report
        }
    })?;
    let text = token.to_string();
    // What the C library says of anything that is no number.
    let mask = numeric(&text).ok_or_else(|| {
        Report::log_line(format!("invalid IP mask \"{text}\": Name or service not known"))
            .hint(format!("A single address is written {ip}/{}.", if ip.is_ipv4() { 32 } else { 128 }))
    })?;
    if mask.is_ipv4() != ip.is_ipv4() {
        return Err(Report::log_line("IP address and mask do not match"));
    }
    Ok(Address::Network(ip, mask))
}
