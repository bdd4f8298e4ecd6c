"""How clients log in to the relays: without a password and in clear, by SCRAM, or by SCRAM through TLS. Servers trust them."""

import subprocess

from lib import proc
from lib.contestants import own

USER, PASSWORD = "postgres", "bench"
#: What --secure may be, and what it means for clients.
KINDS = ("scram", "tls")


class Security:
    """What relays and pgbench need for it: the verifier of the password, and with TLS the files of a certificate."""

    def __init__(self, kind, folder, cluster):
        self.tls = kind == "tls"
        cluster.sql(f"SET password_encryption = 'scram-sha-256'; ALTER ROLE {USER} PASSWORD '{PASSWORD}'")
        self.verifier = cluster.ask(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{USER}'")
        self.certificate, self.key = folder / "server.crt", folder / "server.key"
        if self.tls:
            words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split()
            subprocess.run(
                ["openssl", *words, "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True
            )
            own(self.key)
            own(self.certificate)

    def environment(self):
        """For pgbench."""
        # Whoever starts this may have certificates of his own at home.
        return {"PGPASSWORD": PASSWORD, "PGSSLMODE": "require" if self.tls else "disable", "HOME": "/nonexistent"}

    def pgbouncer(self, home):
        """Lines of pgbouncer.ini."""
        (home / "users").write_text(f'"{USER}" "{self.verifier}"\n')
        lines = "auth_type = scram-sha-256\n"
        if self.tls:
            lines += f"client_tls_sslmode = allow\nclient_tls_key_file = {self.key}\n"
            lines += f"client_tls_cert_file = {self.certificate}\n"
        return lines

    def pgpool(self, home):
        """Lines of pgpool.conf."""
        (home / "pool_hba.conf").write_text("host all all all scram-sha-256\n")
        (home / "pool_passwd").write_text(f"{USER}:{self.verifier}\n")
        lines = f"enable_pool_hba = on\npool_passwd = '{home}/pool_passwd'\n"
        if self.tls:
            lines += f"ssl = on\nssl_cert = '{self.certificate}'\nssl_key = '{self.key}'\n"
            lines += "backend_sslmode = disable\n"
        return lines


class Open:
    """No password, no TLS."""

    tls = False

    def environment(self):
        return {"PGSSLMODE": "disable"}

    def pgbouncer(self, home):
        (home / "users").write_text(f'"{USER}" ""\n')
        return "auth_type = trust\n"

    def pgpool(self, home):
        return "enable_pool_hba = off\npool_passwd = ''\n"


def of(kind, folder, cluster):
    return Security(kind, folder, cluster) if kind else Open()
