//! A synthetic system of any size, with the shape of the reference load: about half of the spans internal, a third in
//! client/server pairs, a few databases, messages, peers without spans and halves that never meet.

use super::dice::Dice;
use super::template::{Attrs, ID};
use super::topology::{Builder, LoadSpanKind, Topology, int, text};

/// How big the synthetic system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Services. At least 1.
    pub services: usize,
    /// Pairs of service and span name, spread evenly over the services; at least one per service.
    pub operations: usize,
}

/// The operations of one service: small systems of their own, called blocks. A block has one operation per role.
#[derive(Debug, Clone, Copy)]
struct LoadBlock {
    /// Server operations: `front` calls `middle` and `back` of others, `middle` calls `back`.
    front: usize,
    middle: usize,
    back: usize,
    consumer: usize,
}

/// The number of roles in a block.
const ROLES: usize = 12;
const US: u64 = 1_000;
const MS: u64 = 1_000_000;

// === impl Scale ===

impl Default for Scale {
    /// The reference load: 50 services, 500 span names.
    fn default() -> Self {
        Self { services: 50, operations: 500 }
    }
}

/// Builds the system.
pub(super) fn build(scale: &Scale, seed: u64) -> Topology {
    let services = scale.services.max(1);
    let mut system = System { b: Builder::default(), dice: Dice::new(seed), names: Vec::new(), blocks: Vec::new() };
    for service in 0..services {
        let names = (scale.operations / services + usize::from(service < scale.operations % services)).max(1);
        system.add_service(service, names);
    }
    for service in 0..services {
        for block in 0..system.blocks[service].len() {
            system.connect(service, block);
        }
    }
    system.b.build()
}

/// The system while it is built.
#[derive(Debug)]
struct System {
    b: Builder,
    dice: Dice,
    /// Per service: its span names.
    names: Vec<Vec<String>>,
    /// Per service: its blocks.
    blocks: Vec<Vec<LoadBlock>>,
}

// === impl System ===

impl System {
    fn add_service(&mut self, number: usize, names: usize) {
        let name = format!("service-{number:03}");
        let host = self.dice.below(64);
        let resource = vec![
            ("service.namespace", text("load")),
            ("service.instance.id", text(format!("{name}-{:08x}", self.dice.below(1 << 32)))),
            ("host.name", text(format!("node-{host:02}.example.internal"))),
            ("k8s.pod.name", text(format!("{name}-{:08x}-{:04x}", self.dice.below(1 << 32), self.dice.below(1 << 16)))),
            ("k8s.namespace.name", text("load")),
            ("telemetry.sdk.language", text("java")),
            ("telemetry.sdk.version", text("1.42.1")),
        ];
        let service = self.b.service(&name, "io.opentelemetry.http", resource);
        self.names.push((0..names).map(|n| format!("{} /api/v1/{name}/resource-{n:03}", method(n))).collect());
        let blocks = names.div_ceil(ROLES);
        let blocks = (0..blocks).map(|b| self.add_block(service, b * ROLES)).collect();
        self.blocks.push(blocks);
    }

    /// The operations that others call.
    fn add_block(&mut self, service: usize, first: usize) -> LoadBlock {
        LoadBlock {
            front: self.op(service, first, LoadSpanKind::Server, 4 * MS),
            middle: self.op(service, first + 1, LoadSpanKind::Server, 3 * MS),
            back: self.op(service, first + 2, LoadSpanKind::Server, 2 * MS),
            consumer: self.op(service, first + 3, LoadSpanKind::Consumer, 5 * MS),
        }
    }

    /// An operation whose name is that of `role`, or of a lower one where there are fewer names.
    fn op(&mut self, service: usize, role: usize, kind: LoadSpanKind, usual: u64) -> usize {
        self.op_with(service, role, kind, usual, Attrs::new())
    }

    fn op_with(&mut self, service: usize, role: usize, kind: LoadSpanKind, usual: u64, more: Attrs) -> usize {
        let name = self.names[service][role % self.names[service].len()].clone();
        let mut attrs = common(&name, kind);
        attrs.extend(more);
        let usual = usual * (50 + self.dice.below(150)) / 100;
        self.b.op(service, kind, &name, usual, &attrs)
    }

    /// Gives the operations of a block something to do.
    fn connect(&mut self, service: usize, block: usize) {
        let first = block * ROLES;
        let LoadBlock { front, middle, back, consumer } = self.blocks[service][block];
        for (parent, role, count) in [(front, 4, 3), (middle, 5, 3), (back, 6, 2), (consumer, 7, 1)] {
            for extra in 0..count {
                let op = self.op(service, first + role + extra % 3, LoadSpanKind::Internal, 700 * US);
                self.b.inside(parent, op, if extra == 2 { 75 } else { 100 });
            }
        }
        for (parent, chance) in [(front, 30), (middle, 30), (back, 20)] {
            let op = self.op_with(service, first + 8, LoadSpanKind::Client, 3 * MS, database(service));
            self.b.database(parent, op, &format!("db-{:02}.example.internal", service % 20), chance);
        }
        let neighbors = [1, 2, 3].map(|n| self.neighbor(service, n, block));
        let one = self.op(service, first + 9, LoadSpanKind::Client, 500 * US);
        self.b.call(front, one, neighbors[0].middle, 100);
        let two = self.op(service, first + 10, LoadSpanKind::Client, 500 * US);
        self.b.call(front, two, neighbors[1].back, 100);
        let three = self.op(service, first + 9, LoadSpanKind::Client, 500 * US);
        self.b.call(middle, three, neighbors[1].back, 100);
        let producer = self.op(service, first + 11, LoadSpanKind::Producer, MS);
        self.b.publish(front, producer, neighbors[2].consumer, 44);
        let named = self.op_with(
            service,
            first + 10,
            LoadSpanKind::Client,
            90 * MS,
            vec![("peer.service", text("partner-api"))],
        );
        self.b.peer(front, named, "partner-api", 30);
        let lost = self.op(service, first + 10, LoadSpanKind::Client, 40 * MS);
        self.b.lost(front, lost, 20);
        self.b.entry(front, "user", 20);
        if block == 0 {
            self.b.orphan(back, 1);
        }
    }

    /// The block that a block's calls to the `n`th neighbor go to.
    fn neighbor(&self, service: usize, n: usize, block: usize) -> LoadBlock {
        let blocks = &self.blocks[(service + n) % self.blocks.len()];
        blocks[block % blocks.len()]
    }
}

fn method(n: usize) -> &'static str {
    ["GET", "POST", "PUT", "DELETE"][n % 4]
}

/// The attributes of every span of the reference load.
fn common(name: &str, kind: LoadSpanKind) -> Attrs {
    let route = name.split_once(' ').map_or(name, |(_, route)| route);
    let mut attrs = vec![
        ("thread.id", int(41)),
        ("thread.name", text("http-nio-8080-exec-7")),
        ("code.function.name", text("com.example.load.ResourceController.handle")),
        ("app.request.id", text(ID)),
        ("app.tenant.tier", text("standard")),
        ("app.build", int(20_481)),
        ("app.region", text("eu-central-1")),
        ("app.feature.flags", text("new-checkout,fast-path")),
    ];
    if kind != LoadSpanKind::Internal {
        attrs.extend([
            ("http.request.method", text(name.split(' ').next().unwrap_or("GET"))),
            ("http.route", text(route)),
            ("http.response.status_code", int(200)),
            ("url.full", text(format!("https://load.example.internal{route}?id={ID}&page=3"))),
        ]);
    } else {
        attrs.extend([
            ("code.file.path", text("src/main/java/com/example/load/ResourceController.java")),
            ("code.line.number", int(217)),
            ("app.cache.hit", text("true")),
            ("app.user.id", text(ID)),
        ]);
    }
    attrs
}

fn database(service: usize) -> Attrs {
    vec![
        ("db.system", text("postgresql")),
        ("db.namespace", text("load")),
        ("db.query.text", text("SELECT id, name, price FROM resource WHERE id = $1")),
        ("server.address", text(format!("db-{:02}.example.internal", service % 20))),
    ]
}
