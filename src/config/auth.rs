//! `remote_write.auth`: a type, the keys that it needs, and no keys of other types.

use super::draft::{AuthType, Choice, Draft};
use super::layers::Layers;
use super::settings::Auth;

const TYPE: &str = "remote_write.auth.type";

// === impl Layers ===

impl Layers<'_> {
    /// The authentication; [`Auth::None`] also if it is invalid, which is then recorded as a problem.
    pub(super) fn check_auth(&mut self, draft: &Draft) -> Auth {
        // Without a readable type, the meaning of the other keys is unknown.
        if self.unread.contains(TYPE) {
            return Auth::None;
        }
        self.check_foreign_keys(draft);
        let auth = &draft.auth;
        match auth.kind {
            AuthType::None => Auth::None,
            AuthType::Basic => {
                if auth.username.is_empty() {
                    self.broken(&[TYPE, "remote_write.auth.username"], "`basic` needs `remote_write.auth.username`");
                }
                let password = self.secret("remote_write.auth.password", &auth.password, auth.password_file.as_deref());
                password.map_or(Auth::None, |password| Auth::Basic { username: auth.username.clone(), password })
            }
            AuthType::Bearer => {
                let token = self.secret("remote_write.auth.token", &auth.token, auth.token_file.as_deref());
                token.map_or(Auth::None, Auth::Bearer)
            }
            AuthType::SigV4 => {
                let region = "remote_write.auth.region";
                if auth.region.is_empty() {
                    self.broken(&[TYPE, region], "`sigv4` needs `remote_write.auth.region`, such as `eu-central-1`");
                }
                if auth.service.is_empty() {
                    self.broken(&["remote_write.auth.service"], "is empty; write `aps`, or remove the line");
                }
                if !auth.role_arn.is_empty() && !auth.role_arn.starts_with("arn:") {
                    let message = "is not an ARN; write one such as `arn:aws:iam::123456789012:role/metrics`";
                    self.broken(&["remote_write.auth.role_arn"], message);
                }
                let optional = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
                Auth::SigV4 {
                    region: auth.region.clone(),
                    service: auth.service.clone(),
                    profile: optional(&auth.profile),
                    role_arn: optional(&auth.role_arn),
                }
            }
        }
    }

    /// Keys that the chosen type does not read are problems, unless they have their defaults.
    fn check_foreign_keys(&mut self, draft: &Draft) {
        let (auth, usual) = (&draft.auth, Draft::default().auth);
        let keys = [
            ("username", AuthType::Basic, auth.username != usual.username),
            ("password", AuthType::Basic, auth.password != usual.password),
            ("password_file", AuthType::Basic, auth.password_file != usual.password_file),
            ("token", AuthType::Bearer, auth.token != usual.token),
            ("token_file", AuthType::Bearer, auth.token_file != usual.token_file),
            ("region", AuthType::SigV4, auth.region != usual.region),
            ("service", AuthType::SigV4, auth.service != usual.service),
            ("profile", AuthType::SigV4, auth.profile != usual.profile),
            ("role_arn", AuthType::SigV4, auth.role_arn != usual.role_arn),
        ];
        for (name, of, given) in keys {
            if given && of != auth.kind {
                let remedy = if auth.kind == AuthType::None { "set `type`" } else { "remove one of them" };
                let message =
                    format!("applies only to `type: {}`, but `type` is `{}`; {remedy}", of.word(), auth.kind.word());
                self.broken(&[&format!("remote_write.auth.{name}"), TYPE], message);
            }
        }
    }
}
