"""Keys and certificates, in the shapes k3s and kubeadm make and read.

Sources: kubeadm's CAs and client certificates are those of client-go/util/cert and kubeadm/app/util/pkiutil; k3s'
are those of its contrib/util/generate-custom-ca-certs.sh; the hash of a k3s CA is pkg/clientaccess/token.go's.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from pibake.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.identity.model import Pair

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PEM_END = "-----END CERTIFICATE-----"
CA_LIFE = timedelta(days=3650)
SLACK = timedelta(days=1)
"""How long before now certificates begin: a board's clock may be behind until it has asked for the time."""


def elliptic_key() -> Secret:
    """Return a new P-256 key as "EC PRIVATE KEY"."""
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def rsa_key() -> Secret:
    """Return a new RSA-2048 key as "RSA PRIVATE KEY", the one form every Kubernetes reads."""
    return _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def authority(name: str, key: Secret, now: datetime, alias: str = "") -> str:
    """Return a self-signed CA certificate; kubeadm gives its CAs their own name as `alias`."""
    private = private_key(key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, private, now, now + CA_LIFE)
    builder = builder.add_extension(_usage(sign=True), critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_id(private.public_key()), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier(_key_id(private.public_key()).digest, None, None), critical=False
    )
    if alias:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(alias)]), critical=False)
    return _cert_pem(builder.sign(private, hashes.SHA256()))


def client(
    issuer: Pair, *, key: Secret, user: str, groups: Sequence[str], now: datetime, ttl: timedelta
) -> str:
    """Return a client certificate: Kubernetes takes CN for the user and every O for a group.

    It ends with its CA at the latest: a longer one would be refused from that day on all the same.
    """
    ca, private = certificates(issuer.cert)[0], private_key(key)
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, user)])
    builder = _builder(subject, ca.subject, private, now, min(now + ttl, valid(ca)[1]))
    builder = builder.add_extension(_usage(sign=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    issuer_id = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False
    )
    return _cert_pem(builder.sign(private_key(issuer.key), hashes.SHA256()))


def certificates(bundle: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM bundle, in order; `ValueError` if one is damaged or there is none."""
    parts = [part + PEM_END for part in bundle.split(PEM_END)[:-1]]
    if not parts:
        raise ValueError("it holds no certificate")
    return [x509.load_pem_x509_certificate(part[part.find("-----BEGIN") :].encode()) for part in parts]


def private_key(key: Secret) -> PrivateKey:
    """Return a key from its PEM; `ValueError`, which never holds the key, if it is none or of another kind."""
    try:
        loaded = serialization.load_pem_private_key(key.reveal().encode(), None)
    except (ValueError, TypeError):
        raise ValueError("it is not a private key in PEM form without a passphrase") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("it is neither an RSA nor an elliptic-curve key")  # noqa: TRY004 - the PEM is the value
    return loaded


def public_pem(key: Secret) -> str:
    """Return the public part of a private key, as "PUBLIC KEY"."""
    public = private_key(key).public_key()
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def belongs(cert: x509.Certificate, key: Secret) -> bool:
    """Return whether a private key is the one of a certificate."""
    return _spki(cert) == private_key(key).public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def is_authority(cert: x509.Certificate) -> bool:
    """Return whether a certificate may sign others."""
    try:
        constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = cert.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign


def valid(cert: x509.Certificate) -> tuple[datetime, datetime]:
    """Return the two ends of a certificate's life."""
    # newer releases have these as ..._utc and warn of the others; Debian 12's has only the others
    begin: datetime | None = getattr(cert, "not_valid_before_utc", None)
    end: datetime | None = getattr(cert, "not_valid_after_utc", None)
    return begin or cert.not_valid_before.replace(tzinfo=UTC), end or cert.not_valid_after.replace(tzinfo=UTC)


def fingerprint(cert: str) -> str:
    """Return the SHA-256 of the first certificate of a bundle, as `openssl x509 -fingerprint` computes it."""
    return certificates(cert)[0].fingerprint(hashes.SHA256()).hex()


def spki_pin(bundle: str) -> str:
    """Return kubeadm's --discovery-token-ca-cert-hash: SHA-256 over the SubjectPublicKeyInfo in DER."""
    return f"sha256:{hashlib.sha256(_spki(certificates(bundle)[0])).hexdigest()}"


def k3s_hash(bundle: str) -> str:
    """Return the hash between `K10` and `::` of a k3s token.

    For one certificate it is the hash of the file as /cacerts serves it, to the last byte; for more, the hash of
    the DER of the root that the first one's chain ends in, if it does end in one (hashCA in token.go).
    """
    certs = certificates(bundle)
    root = _root(certs[0], certs[1:]) if len(certs) > 1 else None
    data = root.public_bytes(serialization.Encoding.DER) if root else bundle.encode()
    return hashlib.sha256(data).hexdigest()


def _root(cert: x509.Certificate, others: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """Return the root of a certificate's chain, walked depth first, or None if it ends in none."""
    for other in others:
        if _signed(cert, other):
            if _is_root(other):
                return other
            rest = [left for left in others if left is not other]
            if found := _root(other, rest):
                return found
    return None


def _is_root(cert: x509.Certificate) -> bool:
    """Return what hashCA takes for a root: no authority key id, or the subject's own."""
    try:
        authority_id = cert.extensions.get_extension_for_class(
            x509.AuthorityKeyIdentifier
        ).value.key_identifier
    except x509.ExtensionNotFound:
        return True
    try:
        own = cert.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_KEY_IDENTIFIER).value
    except x509.ExtensionNotFound:
        return not authority_id
    return not authority_id or (isinstance(own, x509.SubjectKeyIdentifier) and own.digest == authority_id)


def _signed(cert: x509.Certificate, issuer: x509.Certificate) -> bool:
    if cert.issuer != issuer.subject or not is_authority(issuer) or cert.signature_hash_algorithm is None:
        return False
    key, data = issuer.public_key(), cert.tbs_certificate_bytes
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(cert.signature, data, padding.PKCS1v15(), cert.signature_hash_algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(cert.signature, data, ec.ECDSA(cert.signature_hash_algorithm))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(until)
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_encipherment=True, key_cert_sign=sign, crl_sign=False, content_commitment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _key_id(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key)


def _spki(cert: x509.Certificate) -> bytes:
    return cert.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _pem(key: PrivateKey) -> Secret:
    return Secret(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode()
    )


def _cert_pem(cert: x509.Certificate) -> str:
    return cert.public_bytes(serialization.Encoding.PEM).decode()
