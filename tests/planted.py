"""Secrets to plant: invented, of the shapes that real ones have, and put together here so that no scanner takes them for real."""

from __future__ import annotations

import re

__all__ = ["PREFIXES", "SECRETS", "core_of"]

SECRETS = {
    "openai": "sk-" + "Ab3" * 12,
    "anthropic": "sk-ant-api03-" + "Ab3_" * 12,
    "github": "ghp_" + "A1b2" * 9,
    "github fine": "github_pat_" + "A1b2_" * 9,
    "gitlab": "glpat-" + "A1b2c3d4e5f6g7h8i9j0",
    "aws": "AKIA" + "ABCDEFGH12345678",
    "slack": "xoxb-" + "123456789012-abcdefghij",
    "google": "AIza" + "Sy0123456789abcdefghijklmnopqrstuvw",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJlLWhlcmU",
    "npm": "npm_" + "A1b2c3" * 6,
    "hf": "hf_" + "A1b2c3" * 6,
    "stripe": "sk_live_" + "A1b2c3d4e5f6g7h8",
    "bearer": "Bearer " + "5a4b3c2d1e0f9a8b7c6d5e",
    "url": "postgres://shop:hunter2secret@db.local/shop",
    "assignment": 'api_key = "' + "q9w8e7r6t5y4u3i2o1p0a9s8d7f6" + '"',
    "environment": "DB_PASSWORD=" + "q9w8e7r6t5y4u3i2",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabc\n-----END RSA PRIVATE KEY-----",
    "open private key": "-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA",
    "email": "jane.doe@example.org",
    "openrouter": "sk-or-v1-" + "a1b2c3d4" * 8,
    "openai project": "sk-proj-" + "Ab3_" * 20,
    "groq": "gsk_" + "A1b2c3" * 8,
    "gitlab runner": "glrt-" + "A1b2c3d4e5f6g7h8i9j0",
    "slack app": "xapp-1-" + "A0123456789-0123456789-abcdef",
    "slack webhook": "https://hooks.slack.com/services/T01234567/B01234567/" + "a1B2c3D4e5F6g7H8",
    "discord webhook": "https://discord.com/api/webhooks/123456789012345678/" + "aB3_" * 15,
    "telegram": "123456789:AA" + "Ab3_" * 8 + "x",
    "aws secret": "aws_secret_access_key = " + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "aws yaml": "aws_secret_access_key: " + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "google oauth": "GOCSPX-" + "A1b2C3d4E5f6G7h8I9j0",
    "google refresh": "1//0" + "gA1b2C3d4E5f6G7h8I9j0",
    "google access": "ya29." + "a0Ab1Cd2Ef3Gh4" * 3,
    "azure storage": "AccountKey=" + "A1b2" * 20 + "==",
    "azure client": "abc8Q~" + "A1b2C3" * 6,
    "azure sas": "https://x.blob.core.windows.net/c?sv=2024&sig=" + "A1b2C3d4" * 5 + "%3D",
    "stripe restricted": "rk_live_" + "A1b2c3d4e5f6g7h8",
    "stripe webhook": "whsec_" + "A1b2c3d4e5f6g7h8i9",
    "pypi": "pypi-AgEIcHlwaS5vcmc" + "A1b2" * 10,
    "sendgrid": "SG." + "A1b2" * 5 + "." + "c3D4" * 10,
    "twilio": "SK" + "0123456789abcdef" * 2,
    "mailgun": "key-" + "0123456789abcdef" * 2,
    "mailchimp": "0123456789abcdef" * 2 + "-us12",
    "databricks": "dapi" + "0123456789abcdef" * 2,
    "notion": "secret_" + "A1b2c3d4" * 6,
    "digitalocean": "dop_v1_" + "0123456789abcdef" * 4,
    "logfire": "pylf_v1_us_" + "A1b2c3d4" * 5,
    "basic header": "Authorization: Basic " + "dXNlcjpodW50ZXIy",
    "bare header": "authorization: " + "9f8e7d6c5b4a39281706",
    "key header": "x-api-key: " + "7c6d5e4f3a2b1c0d",
    "cookie": "Cookie: session=" + "s3cr3tc00kie",
    "short password": "DB_PASSWORD=" + "hunter2",
    "quoted environment": 'export API_TOKEN="' + "hunter22",
    "escaped quotes": '{\\"apiKey\\": \\"' + "q9w8e7r6t5y4u3i2",
    "json password": '"password": "' + "hunter2",
    "flag": "--password " + "hunter22",
    "login": "curl -u admin:" + "hunter2",
    "password with a slash": "mysql://root:hun/ter2@db/shop",
    "ssh key": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----",
}

PREFIXES = """
    sk- rk- pk-lf- gsk_ xai- pplx- r8_ hf_ npm_ nvapi- tgp_v1_ fw_ csk- ghp_ gho_ ghu_ ghs_ ghr_ github_pat_
    glpat- gldt- glrt- glcbt- glptt- glft- glsoat- glagent- sk_live_ sk_test_ rk_live_ rk_test_ pk_live_ whsec_ sq0csp- sq0atp-
    pypi- rubygems_ dckr_pat_ dop_v1_ doo_v1_ dor_v1_ HRKU- ATATT3 ATCTT3 figd_ lin_api_ ntn_ dp.pt. dp.st. hvs. hvb.
    sntrys_ sntryu_ pylf_v phx_ sbp_ NRAK- glsa_ glc_ tskey- hcaik_ fo1_ shpat_ shpca_ shppa_ shpss_
    xapp- xkeysib- pat-na1- GOCSPX- ya29. AGE-SECRET-KEY-
""".split()
"""What vendors put before random characters."""


def core_of(secret: str) -> str:
    """The part of it that must be nowhere afterwards."""
    parts = re.split(r"://|= ?|: ?|[\n\" ?]", secret.split("@")[0])
    return [part for part in parts if len(part) > 5][-1]
