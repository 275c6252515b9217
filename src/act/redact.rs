//! Takes the secrets that a step was given out of what it says.

use secrecy::{ExposeSecret, SecretString};

use super::Cut;

const REDACTED: &str = "[redacted]";

/// A line of a secret of several lines (a key) is one by itself from this length on; shorter ones say nothing.
const LINE_BYTES_MIN: usize = 8;

/// A part of a secret at the cut end of an output is taken out from this length on.
const PART_BYTES_MIN: usize = 4;

/// The secrets of one step, in the forms in which they may come back.
#[derive(Debug, Default)]
pub struct Redactor {
    /// The longest first, so that no shorter one leaves the rest of it.
    forms: Vec<SecretString>,
}

impl Redactor {
    pub fn add(&mut self, secret: &SecretString) {
        let secret = secret.expose_secret();
        let lines = secret.lines().map(str::trim).filter(|line| line.len() >= LINE_BYTES_MIN);
        let whole = std::iter::once(secret.trim());
        for form in whole.chain(lines).filter(|form| !form.is_empty()) {
            self.forms.push(SecretString::from(form));
            // As a server that echoes a request in JSON, or a shell's `set -x`, writes it.
            let quoted = serde_json::Value::from(form).to_string();
            let escaped = &quoted[1..quoted.len() - 1];
            if escaped != form {
                self.forms.push(SecretString::from(escaped));
            }
        }
        self.forms.sort_by_key(|form| std::cmp::Reverse(form.expose_secret().len()));
    }

    /// `cut` tells where the text was longer: there a part of a secret may stand.
    pub fn redact(&self, text: &str, cut: Cut) -> String {
        let mut text = text.to_owned();
        for form in self.forms.iter().map(ExposeSecret::expose_secret) {
            if text.contains(form) {
                text = text.replace(form, REDACTED);
            }
        }
        for form in self.forms.iter().map(ExposeSecret::expose_secret) {
            let at = |at: &usize| form.is_char_boundary(*at);
            match cut {
                Cut::No => {}
                Cut::Start => {
                    let parts = (1..=form.len().saturating_sub(PART_BYTES_MIN)).filter(at).map(|at| &form[at..]);
                    if let Some(rest) = parts.into_iter().find_map(|part| text.strip_prefix(part)) {
                        text = format!("{REDACTED}{rest}");
                    }
                }
                Cut::End => {
                    let parts = (PART_BYTES_MIN..form.len()).rev().filter(at).map(|at| &form[..at]);
                    if let Some(rest) = parts.into_iter().find_map(|part| text.strip_suffix(part)) {
                        text = format!("{rest}{REDACTED}");
                    }
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let mut redactor = Redactor::default();
        for &secret in secrets {
            redactor.add(&SecretString::from(secret));
        }
        redactor
    }

    #[test]
    fn a_secret_is_taken_out_wherever_it_stands() {
        let redactor = redactor(&["hunter2", "hunter2-and-more"]);
        let text = "a hunter2 Bearer hunter2-and-more,hunter2";
        assert_eq!(redactor.redact(text, Cut::No), "a [redacted] Bearer [redacted],[redacted]");
        assert_eq!(redactor.redact("nothing", Cut::No), "nothing");
        assert!(!format!("{redactor:?}").contains("hunter2"));
    }

    #[test]
    fn so_are_its_escaped_form_and_its_lines() {
        let redactor = redactor(&["pass\"word\\", "-----BEGIN KEY-----\nabcdefghij\n-----END KEY-----\n"]);
        assert_eq!(redactor.redact(r#"{"echo":"pass\"word\\"}"#, Cut::No), r#"{"echo":"[redacted]"}"#);
        assert_eq!(redactor.redact("+ echo abcdefghij", Cut::No), "+ echo [redacted]");
    }

    #[test]
    fn a_part_of_it_at_the_cut_is_too() {
        let redactor = redactor(&["hunter2-secret"]);
        assert_eq!(redactor.redact("r2-secret and on", Cut::Start), "[redacted] and on");
        assert_eq!(redactor.redact("r2-secret and on", Cut::No), "r2-secret and on");
        assert_eq!(redactor.redact("token hunter2", Cut::End), "token [redacted]");
        assert_eq!(redactor.redact("ret and on", Cut::Start), "ret and on");
        assert_eq!(redactor.redact("ööö", Cut::End), "ööö");
    }

    #[test]
    fn no_secret_no_change() {
        assert_eq!(redactor(&[]).redact("a", Cut::Start), "a");
        assert_eq!(redactor(&["\n"]).redact("a\nb", Cut::End), "a\nb");
    }
}
