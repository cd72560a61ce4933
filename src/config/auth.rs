//! `remote_write.auth`: a type, the keys that it needs, and no keys of other types.

use super::draft::{AuthType, Choice, Draft};
use super::layers::Layers;
use super::read::readable;
use super::settings::Auth;
use super::tokens::{TokenEndpoint, unusable_endpoint};

const TYPE: &str = "remote_write.auth.type";
/// Parameters of a token request that have keys of their own, or that follow from the type.
const OWN_PARAMS: [&str; 4] = ["grant_type", "scope", "client_id", "client_secret"];

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
            AuthType::OAuth2 => self.check_oauth2(draft),
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

    fn check_oauth2(&mut self, draft: &Draft) -> Auth {
        let keys = &draft.auth.oauth2;
        let path = |name: &str| format!("remote_write.auth.oauth2.{name}");
        for (name, value) in [("client_id", &keys.client_id), ("token_url", &keys.token_url)] {
            if value.is_empty() {
                self.broken(&[TYPE, &path(name)], format!("`oauth2` needs `{}`", path(name)));
            }
        }
        if let Some(why) = unusable_endpoint(&keys.token_url).filter(|_| !keys.token_url.is_empty()) {
            self.broken(&[&path("token_url")], why);
        }
        for (i, scope) in keys.scopes.iter().enumerate() {
            if scope.contains(char::is_whitespace) {
                self.broken(&[&path(&format!("scopes[{i}]"))], "holds a space; write one scope per item");
            }
        }
        for name in OWN_PARAMS.into_iter().filter(|name| keys.endpoint_params.contains_key(*name)) {
            self.broken(&[&path(&format!("endpoint_params.{name}"))], "is set by spanmill; remove it");
        }
        self.check_identity("remote_write.auth.oauth2.tls", &keys.tls);
        for (name, file) in
            [("ca_file", &keys.tls.ca_file), ("cert_file", &keys.tls.cert_file), ("key_file", &keys.tls.key_file)]
        {
            let read = file.as_ref().map_or(Ok(()), |file| readable(file, self.read_file).map(|_| ()));
            self.must(&path(&format!("tls.{name}")), read);
        }
        let (secret, file) = (&keys.client_secret, keys.client_secret_file.as_deref());
        let secret = self.secret(&path("client_secret"), secret, file);
        secret.map_or(Auth::None, |client_secret| {
            Auth::OAuth2(Box::new(TokenEndpoint {
                url: keys.token_url.clone(),
                client_id: keys.client_id.clone(),
                client_secret,
                scope: keys.scopes.join(" "),
                params: keys.endpoint_params.clone().into_iter().collect(),
                tls: keys.tls.clone(),
            }))
        })
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
            ("oauth2.client_id", AuthType::OAuth2, auth.oauth2.client_id != usual.oauth2.client_id),
            ("oauth2.client_secret", AuthType::OAuth2, auth.oauth2.client_secret != usual.oauth2.client_secret),
            ("oauth2.client_secret_file", AuthType::OAuth2, auth.oauth2.client_secret_file.is_some()),
            ("oauth2.token_url", AuthType::OAuth2, auth.oauth2.token_url != usual.oauth2.token_url),
            ("oauth2.scopes", AuthType::OAuth2, auth.oauth2.scopes != usual.oauth2.scopes),
            ("oauth2.endpoint_params", AuthType::OAuth2, auth.oauth2.endpoint_params != usual.oauth2.endpoint_params),
            ("oauth2.tls.ca_file", AuthType::OAuth2, auth.oauth2.tls.ca_file.is_some()),
            ("oauth2.tls.cert_file", AuthType::OAuth2, auth.oauth2.tls.cert_file.is_some()),
            ("oauth2.tls.key_file", AuthType::OAuth2, auth.oauth2.tls.key_file.is_some()),
            ("oauth2.tls.insecure_skip_verify", AuthType::OAuth2, auth.oauth2.tls.insecure_skip_verify),
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
