//! AWS credentials: those of the usual chain.

use std::time::{Duration, SystemTime};

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};

use super::chain;
use super::renewing::{Pauses, Renewable};

/// The pause after a renewal, whether it failed, or its credentials were rejected.
const PAUSE: Duration = Duration::from_secs(10);

/// The usual AWS chain: environment, profile, web identity, container, instance; then the role, if one is named.
pub(crate) struct Chain {
    pub(crate) region: String,
    pub(crate) profile: Option<String>,
    pub(crate) role: Option<String>,
}

/// Where credentials come from.
pub(crate) enum Source {
    /// The chain, set up again for each renewal: it remembers its files.
    Chain(Chain),
    /// Always the same provider.
    #[cfg(test)]
    Fixed(Option<SharedCredentialsProvider>),
}

// === impl Chain ===

impl Chain {
    pub(crate) async fn provider(&self) -> Option<SharedCredentialsProvider> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new(self.region.clone()));
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        let config = loader.load().await;
        match &self.role {
            Some(role) => {
                let role = AssumeRoleProvider::builder(role).session_name("spanmill").configure(&config).build().await;
                Some(SharedCredentialsProvider::new(role))
            }
            None => config.credentials_provider(),
        }
    }
}

// === impl Source ===

impl Renewable for Source {
    type Item = Credentials;
    const WHAT: &'static str = "AWS credentials";
    const PAUSES: Pauses = Pauses { renewed: PAUSE, failed: (PAUSE, PAUSE) };
    const REACHABLE: &'static str = "the STS or metadata endpoint";
    const GONE: &'static str = "the cached credentials have expired";

    async fn get(&self) -> Result<Credentials, String> {
        self.ask().await
    }

    fn expiry(item: &Credentials) -> Option<SystemTime> {
        item.expiry()
    }
}

impl Source {
    /// Credentials as they are now.
    pub(crate) async fn ask(&self) -> Result<Credentials, String> {
        let provider = match self {
            Self::Chain(chain) => chain.provider().await,
            #[cfg(test)]
            Self::Fixed(provider) => provider.clone(),
        };
        let provider = provider.ok_or("the AWS credential chain is empty")?;
        provider.provide_credentials().await.map_err(|error| chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Poll;

    use aws_credential_types::provider::{error::CredentialsError, future};

    use super::*;
    use crate::worker::identity::renewing::Renewing;

    fn ready<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().expect("a runtime").block_on(future)
    }

    fn credentials(id: &str, expires: Option<SystemTime>) -> Credentials {
        Credentials::new(id, "secret", None, expires, "test")
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Answers what its script says, one after the other, and then hangs.
    #[derive(Debug)]
    struct Script(Mutex<Vec<Result<Credentials, &'static str>>>, Arc<Mutex<u32>>);

    impl ProvideCredentials for Script {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            *self.1.lock().expect("asked") += 1;
            let next = self.0.lock().expect("the script").pop();
            future::ProvideCredentials::new(async move {
                match next {
                    Some(Ok(credentials)) => Ok(credentials),
                    Some(Err(why)) => Err(CredentialsError::provider_error(why)),
                    None => std::future::pending().await,
                }
            })
        }
    }

    fn script(mut answers: Vec<Result<Credentials, &'static str>>) -> (Renewing<Source>, Arc<Mutex<u32>>) {
        answers.reverse();
        let asked = Arc::<Mutex<u32>>::default();
        let provider = SharedCredentialsProvider::new(Script(Mutex::new(answers), Arc::clone(&asked)));
        (Renewing::with_timeout(Source::Fixed(Some(provider)), Duration::from_millis(50)), asked)
    }

    /// Lets what was begun go as far as it can.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn an_endpoint_that_hangs_stops_nobody_whose_credentials_are_good() {
        ready(async {
            let (renewing, asked) = script(vec![Ok(credentials("first", Some(at(3_600))))]);
            assert_eq!(renewing.at(at(0)).await.map(|c| c.access_key_id().to_owned()), Ok("first".to_owned()));
            for second in 3_300..3_310 {
                let mut asking = std::pin::pin!(renewing.at(at(second)));
                let at_once = std::future::poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx))).await;
                assert!(matches!(at_once, Poll::Ready(Ok(_))), "no request waits");
                settle().await;
            }
            assert_eq!(*asked.lock().expect("asked"), 2, "one renewal at a time");
            let late = renewing.at(at(3_700)).await.expect_err("expired");
            assert!(late.contains("no answer within 50ms"), "{late}");
        });
    }

    #[test]
    fn a_renewal_that_fails_is_not_tried_before_every_request() {
        ready(async {
            let never = vec![Err("denied"), Err("denied"), Ok(credentials("second", None))];
            let (renewing, asked) = script(never);
            for second in 0..10 {
                assert!(renewing.at(at(second)).await.expect_err("denied").contains("denied"));
            }
            assert_eq!(*asked.lock().expect("asked"), 1);
            assert!(renewing.at(at(10)).await.is_err());
            assert!(renewing.at(at(20)).await.is_ok(), "the next attempt has them");
        });
    }

    #[test]
    fn what_lives_for_less_than_five_minutes_is_not_renewed_before_every_request() {
        ready(async {
            let lives = |id, until| Ok(credentials(id, Some(at(until))));
            let (renewing, asked) = script(vec![lives("first", 240), lives("second", 480)]);
            for second in 0..160 {
                assert!(renewing.at(at(second)).await.is_ok());
            }
            assert_eq!(*asked.lock().expect("asked"), 1);
            assert!(renewing.at(at(160)).await.is_ok());
            settle().await;
            let now = renewing.at(at(161)).await.map(|c| c.access_key_id().to_owned());
            assert_eq!((now, *asked.lock().expect("asked")), (Ok("second".to_owned()), 2));
        });
    }

    #[test]
    fn credentials_that_live_for_seconds_lead_to_one_renewal_in_ten_seconds_at_most() {
        ready(async {
            let lives = (1..40u64).map(|n| Ok(credentials("short", Some(at(10 * n + 5))))).collect();
            let (renewing, asked) = script(lives);
            for tenth in 0..1_000 {
                // Between two renewals there may be none that are good.
                drop(renewing.at(SystemTime::UNIX_EPOCH + Duration::from_millis(100 * tenth)).await);
                settle().await;
            }
            let asked = *asked.lock().expect("asked");
            assert!((9..=10).contains(&asked), "{asked} renewals in 100 s");
        });
    }

    #[test]
    fn credentials_that_a_receiver_refuses_are_looked_up_again() {
        ready(async {
            let (renewing, asked) = script(vec![Ok(credentials("first", None)), Ok(credentials("second", None))]);
            assert!(renewing.at(at(0)).await.is_ok());
            renewing.distrust(at(1));
            assert!(renewing.at(at(1)).await.is_ok());
            settle().await;
            assert_eq!(*asked.lock().expect("asked"), 1, "but not at once after the last time");
            assert!(renewing.at(at(11)).await.is_ok());
            settle().await;
            let now = renewing.at(at(12)).await.map(|c| c.access_key_id().to_owned());
            assert_eq!((now, *asked.lock().expect("asked")), (Ok("second".to_owned()), 2));
        });
    }

    #[test]
    fn an_empty_chain_is_an_error_that_can_be_retried() {
        ready(async {
            let renewing = Renewing::new(Source::Fixed(None));
            assert!(renewing.at(at(1)).await.expect_err("nothing").contains("chain is empty"));
        });
    }
}
