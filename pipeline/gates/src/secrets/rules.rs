//! What a secret looks like. Forms are those that the issuers document for secret scanning.

use crate::finding::Severity;

/// One kind of secret: where an anchor is found, the pattern must match from there on.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name.
    pub id: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// How bad it is to find one.
    pub severity: Severity,
    /// Texts one of which it begins with, as it is written.
    pub anchors: &'static [&'static str],
    /// From the anchor on; group 1 is the secret where there is one. Empty: the check decides.
    pub pattern: &'static str,
    /// What must hold besides.
    pub check: Check,
}

/// What must hold besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It is no placeholder.
    Real,
    /// That, and it has a digit: words with dashes are not meant.
    Digit,
    /// That, and it is as random as a key.
    Random,
    /// Its first part is a JWT's header.
    Jwt,
    /// A PEM block with a body.
    Pem,
    /// A name, a sign, and a value that looks random.
    Assignment,
    /// A user and a password before a host.
    Address,
}

use Check::{Address, Assignment, Digit, Jwt, Pem, Random, Real};
use Severity::{Critical, High, Medium};

const fn rule(
    id: &'static str,
    about: &'static str,
    severity: Severity,
    anchors: &'static [&'static str],
    pattern: &'static str,
    check: Check,
) -> Rule {
    Rule { id, about, severity, anchors, pattern, check }
}

/// A cosign key is a PEM block with another label.
pub const COSIGN: Rule =
    rule("cosign-private-key", "a private key of cosign", Critical, &[], "", Pem);
/// A value in a file of environment variables.
pub const ENV: Rule =
    rule("env-file", "a secret in a file of environment variables", High, &[], "", Real);

/// All rules that have anchors. Of two that find the same, the first is told.
pub const RULES: [Rule; 23] = [
    rule("private-key", "a private key", Critical, &["-----BEGIN "], "", Pem),
    rule(
        "github-token",
        "a token of GitHub",
        Critical,
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        "^gh[pousr]_[A-Za-z0-9]{36,255}",
        Real,
    ),
    rule(
        "github-fine-grained-token",
        "a fine-grained token of GitHub",
        Critical,
        &["github_pat_"],
        "^github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
        Real,
    ),
    rule(
        "gitlab-token",
        "a token of GitLab",
        Critical,
        &["glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glsoat-"],
        "^gl(?:pat|dt|rt|ptt|cbt|soat)-[A-Za-z0-9_.-]{20,300}",
        Digit,
    ),
    rule(
        "slack-token",
        "a token of Slack",
        Critical,
        &["xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxr-", "xoxs-", "xapp-"],
        "^(?:xox[abeprs]|xapp)-[A-Za-z0-9-]{20,255}",
        Digit,
    ),
    rule(
        "slack-webhook",
        "the address of a Slack webhook",
        High,
        &["hooks.slack.com/services/"],
        "^hooks\\.slack\\.com/services/T[A-Z0-9]{6,20}/B[A-Z0-9]{6,20}/[A-Za-z0-9]{20,64}",
        Real,
    ),
    rule(
        "aws-access-key",
        "the id of an AWS access key",
        High,
        &["AKIA", "ASIA"],
        "^A[KS]IA[A-Z2-7]{16}",
        Real,
    ),
    rule(
        "aws-secret-key",
        "an AWS secret access key",
        Critical,
        &[
            "aws_secret_access_key",
            "AWS_SECRET_ACCESS_KEY",
            "SecretAccessKey",
            "secretAccessKey",
            "aws_secret_key",
        ],
        "^\\w+[\"']?\\s{0,8}(?:=>|:|=)\\s{0,8}[\"']?([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)",
        Random,
    ),
    rule("google-api-key", "a Google API key", High, &["AIza"], "^AIza[0-9A-Za-z_-]{35}", Real),
    rule(
        "google-oauth-secret",
        "a Google OAuth client secret",
        Critical,
        &["GOCSPX-"],
        "^GOCSPX-[A-Za-z0-9_-]{28}",
        Real,
    ),
    rule(
        "google-oauth-token",
        "a Google OAuth token",
        High,
        &["ya29."],
        "^ya29\\.[A-Za-z0-9_-]{30,1000}",
        Real,
    ),
    rule(
        "stripe-key",
        "a live key of Stripe",
        Critical,
        &["sk_live_", "rk_live_"],
        "^[sr]k_live_[A-Za-z0-9]{20,255}",
        Real,
    ),
    rule("npm-token", "a token of npm", Critical, &["npm_"], "^npm_[A-Za-z0-9]{36}", Digit),
    rule(
        "npm-login",
        "a login in a configuration of npm",
        High,
        &[":_authToken="],
        "^:_authToken=[\"']?([A-Za-z0-9+/=_.-]{16,500})",
        Real,
    ),
    rule(
        "python-index-token",
        "a token of the Python package index",
        Critical,
        &["pypi-AgE"],
        "^pypi-AgE[A-Za-z0-9_-]{50,1000}",
        Real,
    ),
    rule(
        "docker-hub-token",
        "a token of Docker Hub",
        Critical,
        &["dckr_pat_"],
        "^dckr_pat_[A-Za-z0-9_-]{27}",
        Real,
    ),
    rule(
        "hugging-face-token",
        "a token of Hugging Face",
        Critical,
        &["hf_"],
        "^hf_[A-Za-z]{34}",
        Random,
    ),
    rule(
        "model-service-key",
        "a key of a service for language models",
        Critical,
        &["sk-proj-", "sk-ant-", "sk-svcacct-"],
        "^sk-(?:proj|ant|svcacct)-[A-Za-z0-9_-]{40,300}",
        Digit,
    ),
    rule(
        "azure-storage-key",
        "a key of an Azure storage account",
        Critical,
        &["AccountKey="],
        "^AccountKey=([A-Za-z0-9+/]{86}==)",
        Real,
    ),
    rule(
        "age-key",
        "a private key of age",
        Critical,
        &["AGE-SECRET-KEY-1"],
        "^AGE-SECRET-KEY-1[0-9A-Z]{58}",
        Real,
    ),
    rule(
        "jwt",
        "a JSON Web Token",
        High,
        &["eyJ"],
        "^eyJ[A-Za-z0-9_-]{8,2000}\\.eyJ[A-Za-z0-9_-]{8,4000}\\.[A-Za-z0-9_-]{16,1000}",
        Jwt,
    ),
    rule("url-password", "a password in an address", High, &["://"], "", Address),
    rule(
        "assignment",
        "a value that looks like a secret",
        Medium,
        &[
            "secret",
            "Secret",
            "SECRET",
            "token",
            "Token",
            "TOKEN",
            "passw",
            "Passw",
            "PASSW",
            "api_key",
            "apikey",
            "apiKey",
            "ApiKey",
            "API_KEY",
            "APIKEY",
            "api-key",
            "access_key",
            "accessKey",
            "ACCESS_KEY",
            "private_key",
            "PRIVATE_KEY",
            "privateKey",
        ],
        "",
        Assignment,
    ),
];
