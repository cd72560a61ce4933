//! A realistic web shop, with everything that a service graph has to distinguish.

use super::dice::Dice;
use super::template::{Attrs, ID};
use super::topology::{Builder, LoadSpanKind, Topology, int, text};

/// A microsecond and a millisecond in nanoseconds.
const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// The shop while it is built.
#[derive(Debug)]
struct Shop {
    b: Builder,
    dice: Dice,
}

/// The services that take part in the buying and in what follows it.
#[derive(Debug, Clone, Copy)]
struct Backend {
    cart: usize,
    catalog: usize,
    search: usize,
    recommendation: usize,
    ads: usize,
    currency: usize,
    orders: usize,
    checkout: usize,
}

/// A page: its name, how often it is seen, and which operations it calls, with their chances.
type Page<'a> = (&'a str, u64, &'a [(usize, &'a str, u32)]);

/// A database, as its client spans describe it.
#[derive(Debug, Clone, Copy)]
enum Store {
    /// Named by `server.address`, and has a namespace.
    Postgres,
    /// Named by nothing but `db.system`.
    Redis,
    /// Named by `server.address`, with the older `db.name`.
    Mongo,
    /// A Redis behind `network.peer.address` and `network.peer.port`.
    Features,
}

/// Builds the shop.
pub(super) fn build(seed: u64) -> Topology {
    let mut shop = Shop { b: Builder::default(), dice: Dice::new(seed) };
    let backend = shop.backend();
    shop.front(backend);
    shop.oddities(backend);
    shop.b.build()
}

// === impl Shop ===

impl Shop {
    fn service(&mut self, name: &str, language: &str) -> usize {
        let version = format!("{}.{}.{}", 1 + self.dice.below(4), self.dice.below(30), self.dice.below(10));
        let pod = format!("{name}-{:08x}-{:04x}", self.dice.below(1 << 32), self.dice.below(1 << 16));
        let resource = vec![
            ("service.namespace", text("shop")),
            ("service.version", text(version)),
            ("service.instance.id", text(pod.clone())),
            ("k8s.pod.name", text(pod)),
            ("k8s.namespace.name", text("shop")),
            ("telemetry.sdk.language", text(language)),
            ("deployment.environment.name", text("production")),
        ];
        self.b.service(name, &format!("shop/{name}"), resource)
    }

    /// A speed around `usual`, so that no two operations are alike.
    fn speed(&mut self, usual: u64) -> u64 {
        usual * (80 + self.dice.below(40)) / 100
    }

    /// An HTTP server operation.
    fn http(&mut self, service: usize, name: &str, usual: u64) -> usize {
        let (method, route) = name.split_once(' ').unwrap_or(("GET", name));
        let attrs = vec![
            ("http.request.method", text(method)),
            ("http.route", text(route)),
            ("http.response.status_code", int(200)),
            ("url.path", text(format!("{route}?request={ID}"))),
            ("url.scheme", text("https")),
            ("user_agent.original", text("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")),
        ];
        let usual = self.speed(usual);
        self.b.op(service, LoadSpanKind::Server, name, usual, &attrs)
    }

    /// A gRPC server operation.
    fn grpc(&mut self, service: usize, name: &str, usual: u64) -> usize {
        let attrs = rpc(name);
        let usual = self.speed(usual);
        self.b.op(service, LoadSpanKind::Server, name, usual, &attrs)
    }

    /// `parent` calls `server`; the client span is named as the server's.
    fn call(&mut self, parent: usize, server: usize, name: &str, chance: u32) {
        let address = self.b.name_of(self.b.service_of(server)).to_owned();
        let mut attrs = rpc(name);
        attrs.push(("server.address", text(format!("{address}.shop.svc"))));
        attrs.push(("server.port", int(8080)));
        let client = self.b.op(self.b.service_of(parent), LoadSpanKind::Client, name, 600 * US, &attrs);
        self.b.call(parent, client, server, chance);
    }

    fn inside(&mut self, parent: usize, name: &str, usual: u64, chance: u32) {
        let attrs = vec![("code.function.name", text(name)), ("thread.id", int(17))];
        let usual = self.speed(usual);
        let op = self.b.op(self.b.service_of(parent), LoadSpanKind::Internal, name, usual, &attrs);
        self.b.inside(parent, op, chance);
    }

    fn database(&mut self, parent: usize, store: Store, name: &str, usual: u64, chance: u32) {
        let usual = self.speed(usual);
        let op = self.b.op(self.b.service_of(parent), LoadSpanKind::Client, name, usual, &store.attrs(name));
        self.b.database(parent, op, store.node(), chance);
    }

    /// A consumer operation of the queue `orders`.
    fn consumer(&mut self, service: usize, usual: u64) -> usize {
        let usual = self.speed(usual);
        self.b.op(service, LoadSpanKind::Consumer, "process orders", usual, &queue("process"))
    }

    fn publish(&mut self, parent: usize, consumer: usize, chance: u32) {
        let op = self.b.op(self.b.service_of(parent), LoadSpanKind::Producer, "send orders", 2 * MS, &queue("send"));
        self.b.publish(parent, op, consumer, chance);
    }

    fn backend(&mut self) -> Backend {
        let currency = self.service("currency", "cpp");
        let convert = self.grpc(currency, "Currency/Convert", 900 * US);
        let (catalog, search) = (self.catalog(), self.search());
        let cart_service = self.service("cart", "dotnet");
        let cart = self.grpc(cart_service, "Cart/Get", 2 * MS);
        self.database(cart, Store::Redis, "HGETALL", 700 * US, 100);
        let recommendation_service = self.service("recommendation", "python");
        let recommendation = self.grpc(recommendation_service, "Recommendation/List", 18 * MS);
        self.inside(recommendation, "rank", 40 * MS, 100);
        self.call(recommendation, catalog, "Catalog/Get", 90);
        let ads_service = self.service("ads", "java");
        let ads = self.grpc(ads_service, "Ads/Pick", 6 * MS);
        self.inside(ads, "auction", 3 * MS, 100);
        self.database(ads, Store::Redis, "MGET", 500 * US, 60);
        let (checkout, orders) = self.checkout(cart, convert);
        Backend { cart, catalog, search, recommendation, ads, currency: convert, orders, checkout }
    }

    fn catalog(&mut self) -> usize {
        let service = self.service("catalog", "go");
        let get = self.grpc(service, "Catalog/Get", 2 * MS);
        self.database(get, Store::Mongo, "find products", 4 * MS, 70);
        self.inside(get, "render price", 300 * US, 50);
        get
    }

    /// The slow one.
    fn search(&mut self) -> usize {
        let service = self.service("search", "rust");
        let query = self.grpc(service, "Search/Query", 320 * MS);
        self.inside(query, "parse \"query\"", 150 * US, 100);
        self.inside(query, "score\\merge", 90 * MS, 80);
        self.database(query, Store::Mongo, "aggregate products", 140 * MS, 60);
        query
    }

    /// Checkout and all that it needs; returns it and the look-up of orders.
    fn checkout(&mut self, cart: usize, convert: usize) -> (usize, usize) {
        let checkout_service = self.service("checkout", "go");
        let place = self.grpc(checkout_service, "Checkout/Place", 12 * MS);
        let (payment, shipping, inventory) = (self.payment(), self.shipping(), self.inventory());
        let orders_service = self.service("orders", "java");
        let create = self.grpc(orders_service, "Orders/Create", 5 * MS);
        self.database(create, Store::Postgres, "INSERT orders", 6 * MS, 100);
        self.database(create, Store::Postgres, "COMMIT", 9 * MS, 100);
        let list = self.grpc(orders_service, "Orders/List", 4 * MS);
        self.database(list, Store::Postgres, "SELECT \"orders\"", 25 * MS, 100);
        let email_service = self.service("email", "ruby");
        let email = self.http(email_service, "POST /send_confirmation", 20 * MS);
        let smtp = vec![("peer.service", text("smtp-relay")), ("server.address", text("smtp.relay.example"))];
        let relay = self.b.op(email_service, LoadSpanKind::Client, "SMTP DATA", 700 * MS, &smtp);
        self.b.peer(email, relay, "smtp-relay", 100);
        let accounting_service = self.service("accounting", "dotnet");
        let accounting = self.consumer(accounting_service, 8 * MS);
        self.database(accounting, Store::Postgres, "INSERT ledger", 5 * MS, 100);
        self.call(place, cart, "Cart/Get", 100);
        self.call(place, convert, "Currency/Convert", 100);
        self.call(place, inventory, "Inventory/Reserve", 100);
        self.call(place, payment, "Payment/Charge", 100);
        self.call(place, create, "Orders/Create", 95);
        self.call(place, shipping, "Shipping/Ship", 95);
        self.publish(place, accounting, 95);
        self.call(place, email, "POST /send_confirmation", 90);
        (place, list)
    }

    fn payment(&mut self) -> usize {
        let fraud_service = self.service("fraud", "kotlin");
        let fraud = self.grpc(fraud_service, "Fraud/Score", 30 * MS);
        self.database(fraud, Store::Features, "MGET", 2 * MS, 100);
        self.inside(fraud, "infer", 55 * MS, 100);
        let service = self.service("payment", "node");
        let charge = self.grpc(service, "Payment/Charge", 10 * MS);
        self.call(charge, fraud, "Fraud/Score", 100);
        let attrs = vec![
            ("peer.service", text("payment-provider")),
            ("http.request.method", text("POST")),
            ("server.address", text("api.pay.example")),
            ("url.full", text(format!("https://api.pay.example/v1/charges/{ID}"))),
        ];
        let provider = self.b.op(service, LoadSpanKind::Client, "POST /v1/charges", 450 * MS, &attrs);
        self.b.fragile(provider, 400);
        self.b.peer(charge, provider, "payment-provider", 100);
        charge
    }

    fn shipping(&mut self) -> usize {
        let service = self.service("shipping", "rust");
        let ship = self.grpc(service, "Shipping/Ship", 3 * MS);
        self.inside(ship, "quote", 8 * MS, 100);
        ship
    }

    fn inventory(&mut self) -> usize {
        let service = self.service("inventory", "java");
        let reserve = self.grpc(service, "Inventory/Reserve", 4 * MS);
        self.database(reserve, Store::Postgres, "UPDATE stock", 12 * MS, 100);
        self.b.fragile(reserve, 200);
        reserve
    }

    /// The front ends for browsers and the app.
    fn front(&mut self, backend: Backend) {
        let service = self.service("frontend", "node");
        let pages: [Page<'_>; 6] = [
            ("GET /", 30, &[(backend.ads, "Ads/Pick", 90), (backend.recommendation, "Recommendation/List", 100)]),
            (
                "GET /products/{id}",
                40,
                &[
                    (backend.catalog, "Catalog/Get", 100),
                    (backend.currency, "Currency/Convert", 80),
                    (backend.recommendation, "Recommendation/List", 60),
                ],
            ),
            ("GET /search", 12, &[(backend.search, "Search/Query", 100), (backend.ads, "Ads/Pick", 50)]),
            ("GET /cart", 14, &[(backend.cart, "Cart/Get", 100), (backend.currency, "Currency/Convert", 100)]),
            ("POST /checkout", 6, &[(backend.checkout, "Checkout/Place", 100)]),
            ("GET /orders", 5, &[(backend.orders, "Orders/List", 100)]),
        ];
        for (name, weight, calls) in pages {
            let page = self.http(service, name, 6 * MS);
            for &(server, rpc, chance) in calls {
                self.call(page, server, rpc, chance);
            }
            self.inside(page, "render", 4 * MS, 70);
            self.b.entry(page, "user", weight);
        }
        let attrs = vec![("peer.service", text("mobile-app")), ("http.route", text("/api/products"))];
        let api = self.b.op(service, LoadSpanKind::Server, "GET /api/products", 3 * MS, &attrs);
        self.call(api, backend.catalog, "Catalog/Get", 100);
        self.b.entry(api, "mobile-app", 16);
    }

    /// Broken, old or unusual parts.
    fn oddities(&mut self, backend: Backend) {
        let nothing = Attrs::new();
        let cart_service = self.b.service_of(backend.cart);
        let batch = self.b.op(cart_service, LoadSpanKind::Internal, "expire carts", 900 * MS, &nothing);
        self.database(batch, Store::Redis, "SCAN", 30 * MS, 100);
        let old = self.b.op(cart_service, LoadSpanKind::Unspecified, "legacy sweep", 15 * MS, &nothing);
        self.b.inside(batch, old, 100);
        let unnamed = self.b.op(cart_service, LoadSpanKind::Client, "POST /hook", 80 * MS, &nothing);
        self.b.lost(batch, unnamed, 100);
        let unread = self.b.op(cart_service, LoadSpanKind::Producer, "send expired-carts", 3 * MS, &queue("send"));
        self.b.lost(batch, unread, 60);
        self.b.timer(batch, 2);
        let catalog_service = self.b.service_of(backend.catalog);
        let orphan = self.grpc(catalog_service, "Catalog/Sync", 2_500 * MS);
        self.database(orphan, Store::Mongo, "bulkWrite products", 900 * MS, 100);
        self.b.orphan(orphan, 2);
        let replayed = self.consumer(catalog_service, 7 * MS);
        self.b.orphan(replayed, 2);
        let import =
            self.b.op(catalog_service, LoadSpanKind::Consumer, "process imports", 16_000 * MS, &queue("process"));
        self.b.entry(import, "user", 1);
    }
}

// === impl Store ===

impl Store {
    /// The name on the map.
    fn node(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Mongo => "mongo",
            Self::Features => "fraud-features:6379",
        }
    }

    fn attrs(self, statement: &str) -> Attrs {
        match self {
            Self::Postgres => vec![
                ("db.system", text("postgresql")),
                ("db.namespace", text("shop")),
                ("db.query.text", text(format!("{statement} /* {ID} */"))),
                ("server.address", text("postgres")),
                ("server.port", int(5432)),
            ],
            Self::Redis => vec![("db.system", text("redis")), ("db.operation.name", text(statement))],
            Self::Mongo => vec![
                ("db.system", text("mongodb")),
                ("db.name", text("catalog")),
                ("db.operation", text(statement)),
                ("server.address", text("mongo")),
                ("network.peer.address", text("10.3.0.7")),
                ("network.peer.port", int(27017)),
            ],
            Self::Features => vec![
                ("db.system.name", text("redis")),
                ("db.operation.name", text(statement)),
                ("network.peer.address", text("fraud-features")),
                ("network.peer.port", int(6379)),
            ],
        }
    }
}

/// Attributes of an RPC named `Service/Method`.
fn rpc(name: &str) -> Attrs {
    let (service, method) = name.split_once('/').unwrap_or((name, ""));
    vec![
        ("rpc.system", text("grpc")),
        ("rpc.service", text(format!("shop.{service}"))),
        ("rpc.method", text(method)),
        ("rpc.grpc.status_code", int(0)),
    ]
}

/// Attributes of a span that touches the queue.
fn queue(operation: &str) -> Attrs {
    vec![
        ("messaging.system", text("kafka")),
        ("messaging.destination.name", text("orders")),
        ("messaging.operation.type", text(operation)),
        ("messaging.message.id", text(ID)),
    ]
}
