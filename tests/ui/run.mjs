// The page in a real browser: every interaction, no violation of accessibility rules, no card upon another, and how long it takes.
//
// Usage: node tests/ui/run.mjs [--only WORDS] [--screenshots]
// With --screenshots it writes the pictures of the documentation.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { serve } from "./serve.mjs";
import { Api } from "./world.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const modules = createRequire(join(ROOT, "src/ui/package.json"));
const { chromium } = modules("playwright-core");
const axe = readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");

const given = process.argv.slice(2);
const only = given[0] === "--only" ? given[1] : null;
const pictures = given.includes("--screenshots");
const chromiumPath = process.env.TEST_CHROMIUM ?? "/usr/bin/chromium";
assert.ok(existsSync(chromiumPath), `${chromiumPath} is missing: apt-get install chromium, or set TEST_CHROMIUM`);

const profile = mkdtempSync(join(tmpdir(), "spanmill-page-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: chromiumPath,
  headless: true,
  viewport: { width: 1440, height: 900 },
  timezoneId: "UTC",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

const tests = [];
const test = (name, body) => tests.push([name, body]);

/** A page over a world; everything that goes wrong in it, and every request elsewhere, fails the test. */
async function visit(api, query = "", { width = 1440, height = 900, wait = ".node" } = {}) {
  const server = await serve(api);
  const page = await context.newPage();
  await page.setViewportSize({ width, height });
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (message) => message.type() === "error" && !(api.down && /Failed to load/.test(message.text())) && !/404/.test(message.text()) && wrong.push(message.text()));
  page.on("request", (request) => request.url().startsWith(server.url) || wrong.push(`request to ${request.url()}`));
  await page.goto(server.url + query);
  await page.waitForSelector(wait);
  const close = async () => {
    await page.close();
    await server.close();
    assert.deepEqual(wrong, []);
  };
  return { page, close, url: server.url };
}

const node = (name) => `.node:has(.name:text-is("${name}"))`;
const said = (page) => page.evaluate(() => location.search);
const places = (page) => page.$$eval(".node", (all) => Object.fromEntries(all.map((one) => [one.dataset.node, one.getAttribute("transform")])));

/** Rules of WCAG 2.2 A and AA, and best practice. */
async function violations(page) {
  // The policy of the page forbids scripts of others in it; the protocol of the browser does not.
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((one) => one.html.slice(0, 140)).join(" | ")}`);
  });
  return found;
}

/** Pairs of cards of which one covers the other. */
const covered = (page) => page.$$eval(".node", (all) => {
  const boxes = all.map((one) => [one.dataset.node, one.querySelector(".card").getBoundingClientRect()]);
  return boxes.flatMap(([a, x], i) => boxes.slice(i + 1).filter(([, y]) => x.left < y.right - 1 && y.left < x.right - 1 && x.top < y.bottom - 1 && y.top < x.bottom - 1).map(([b]) => `${a} and ${b}`));
});

/** Edges that pass under a card that is none of their ends. */
const crossed = (page) => page.evaluate(() => {
  const cards = [...document.querySelectorAll(".node")].map((one) => [one.dataset.node, one.querySelector(".card").getBoundingClientRect()]);
  const found = [];
  for (const edge of document.querySelectorAll(".edge")) {
    const line = edge.querySelector(".line");
    const matrix = line.getScreenCTM();
    const length = line.getTotalLength();
    const ends = edge.dataset.edge.split("→");
    for (let at = 0; at <= length; at += 8) {
      const p = line.getPointAtLength(at).matrixTransform(matrix);
      const hit = cards.find(([id, box]) => !ends.includes(id) && p.x > box.left + 3 && p.x < box.right - 3 && p.y > box.top + 3 && p.y < box.bottom - 3);
      if (hit) {
        found.push(`${edge.dataset.edge} under ${hit[0]}`);
        break;
      }
    }
  }
  return found;
});

/** Nodes outside of the part of the stage that is free. */
const outside = (page) => page.evaluate(() => {
  const stage = document.querySelector(".stage").getBoundingClientRect();
  return [...document.querySelectorAll(".node .card")].filter((card) => {
    const box = card.getBoundingClientRect();
    return box.left < stage.left || box.right > stage.right || box.top < stage.top + 40 || box.bottom > stage.bottom - 40;
  }).length;
});

for (const [services, kind] of [[15, "all"], [300, "groups"], [1000, "groups"]]) {
  test(`${services} services fit on the first view, no card covers another, and no edge passes under one`, async () => {
    const { page, close } = await visit(new Api(services));
    assert.deepEqual(await covered(page), []);
    assert.deepEqual(await crossed(page), []);
    assert.equal(await outside(page), 0);
    const text = await page.textContent(".counts");
    assert.match(text, kind === "all" ? /^24 nodes$/ : /namespaces, \d+ nodes/);
    assert.ok((await page.$$(".node")).length <= 60);
    await close();
  });
}

test("a namespace of 300 services opens with its nodes and its neighbors as groups, and closes", async () => {
  const { page, close } = await visit(new Api(300));
  const before = await places(page);
  await page.click(".node.is-group:has(.name:text-is('orders'))");
  await page.waitForSelector(".pill:has-text('orders')");
  await page.waitForSelector(".node.is-node");
  assert.match(await said(page), /ns=orders/);
  assert.deepEqual(await covered(page), []);
  assert.deepEqual(await crossed(page), []);
  await page.keyboard.press("Escape");
  await page.waitForSelector(".counts:text-matches('^\\\\d+ namespaces, \\\\d+ nodes')");
  assert.deepEqual(await places(page), before, "every group is where it was");
  await close();
});

test("a refresh moves nothing, a new node goes beside its caller, and a tidy-up gives it its column", async () => {
  const api = new Api(15);
  const { page, close } = await visit(api);
  const before = await places(page);
  api.grow();
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await page.waitForSelector(node("fresh-1"));
  const after = await places(page);
  for (const [id, place] of Object.entries(before)) assert.equal(after[id], place, `${id} moved`);
  assert.deepEqual(await covered(page), []);
  await page.click("button:has-text('Tidy (1 new)')");
  await page.waitForSelector("button:has-text('Tidy')", { state: "detached" });
  assert.deepEqual(await covered(page), []);
  await close();
});

test("a click opens a service with charts, operations to sort, neighbors and links to traces, and the zoom stays", async () => {
  const { page, close } = await visit(new Api(15));
  const scale = () => page.$eval(".map > g", (g) => /scale\(([^)]+)\)/.exec(g.getAttribute("transform"))[1]);
  const before = await scale();
  await page.click(node("checkout"));
  await page.waitForSelector(".ops tbody tr");
  assert.equal(await scale(), before);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "checkout");
  assert.equal((await page.$$(".chart")).length, 3);
  const first = () => page.textContent(".ops tbody tr:first-child th");
  assert.match(await first(), /PlaceOrder/);
  await page.click(".ops thead th:has-text('Errors') button");
  assert.equal(await page.getAttribute(".ops thead th:has-text('Errors')", "aria-sort"), "descending");
  assert.match(await first(), /Voucher/);
  const link = await page.$(".exemplars a");
  assert.match(await link.getAttribute("href"), /^https:\/\/traces\.example\/trace\/[0-9a-f]{32}$/);
  assert.equal(await link.getAttribute("rel"), "noopener noreferrer");
  await page.hover(".chart");
  assert.equal((await page.$$(".chart .cursor")).length, 3, "one cursor for all charts");
  await page.click(".neighbors .who:has-text('payment')");
  await page.waitForSelector("h2:text-is('payment')");
  await page.goBack();
  await page.waitForSelector("h2:text-is('checkout')");
  await page.keyboard.press("Escape");
  await page.waitForSelector(".panel", { state: "detached" });
  await page.waitForFunction(() => document.activeElement?.dataset?.node === "checkout");
  await close();
});

test("a service and an edge in a cycle name the others of it, which open", async () => {
  const api = new Api(15);
  api.cycles = [["cart", "checkout", "payment"]];
  const { page, close } = await visit(api, "?sel=checkout");
  const inCycle = "section:has(> h3:text('Cycle'))";
  await page.waitForSelector(inCycle);
  assert.deepEqual(await page.$$eval(".panel h3", (all) => all.map((one) => one.textContent).filter((text) => text.startsWith("Cycle"))), ["Cycle 3"]);
  await page.click(`${inCycle} .who:has-text('payment')`);
  await page.waitForSelector("h2:text-is('payment')");
  await page.goto(new URL("?sel=" + encodeURIComponent("checkout→payment"), page.url()).href);
  await page.waitForSelector(`${inCycle} .who:has-text('cart')`);
  await page.goto(new URL("?sel=" + encodeURIComponent("checkout→currency"), page.url()).href);
  await page.waitForSelector("h2:has-text('currency')");
  assert.equal(await page.$(inCycle), null);
  await close();
});

test("an edge shows its numbers and its past under the pointer, and opens", async () => {
  const { page, close } = await visit(new Api(15));
  const spot = await page.$eval("[data-edge='checkout→payment'] .line", (line) => {
    const p = line.getPointAtLength(line.getTotalLength() * 0.9).matrixTransform(line.getScreenCTM());
    return { x: p.x, y: p.y };
  });
  await page.mouse.move(spot.x, spot.y);
  await page.waitForSelector(".hovercard .spark");
  assert.match(await page.textContent(".hovercard"), /checkout → payment.*latency of the client.*Rate.*Errors4\.9 %/s);
  assert.ok((await page.$$(".node.dim")).length > 15);
  await page.mouse.click(spot.x, spot.y);
  await page.waitForSelector("h2:text-is('checkout → payment')");
  await page.waitForSelector(".chart .s-rate .line[d^=M]");
  await close();
});

test("the search finds, `/` reaches it, and Enter shows what is found", async () => {
  const { page, close } = await visit(new Api(300));
  await page.keyboard.press("/");
  await page.keyboard.type("orders-");
  await page.waitForSelector("[role=option]");
  await page.keyboard.press("ArrowDown");
  const name = await page.textContent("[role=option][aria-selected=true] span");
  await page.keyboard.press("Enter");
  await page.waitForSelector(`h2:text-is("${name}")`);
  assert.match(await said(page), /focus=.*sel=/);
  await close();
});

test("a focus has columns by hops, counts what it leaves out, and side edges on demand", async () => {
  const api = new Api(300);
  const busiest = api.world.edges.reduce((all, { client }) => all.set(client, (all.get(client) ?? 0) + 1), new Map());
  const [name] = [...busiest].sort((a, b) => b[1] - a[1])[0];
  const id = api.world.nodes.get(name).id;
  const { page, close } = await visit(api, `?focus=${encodeURIComponent(id)}`);
  await page.waitForSelector(".node.focused");
  assert.ok(await page.$(".node.is-more"), "more than nine neighbors");
  const one = (await page.$$(".node")).length;
  await page.click(".segmented button:text-is('2')");
  await page.waitForFunction((n) => document.querySelectorAll(".node").length > n, one);
  assert.match(await said(page), /hops=2/);
  assert.deepEqual(await covered(page), []);
  const edges = (await page.$$(".edge")).length;
  const side = await page.$("button:has-text('side edge')");
  if (side) {
    await side.click();
    await page.waitForFunction((n) => document.querySelectorAll(".edge").length > n, edges);
  }
  await page.keyboard.press("Escape");
  await page.waitForSelector(".node.is-group");
  await close();
});

test("the keyboard walks along the heaviest calls and within columns, with one tab stop", async () => {
  const { page, close } = await visit(new Api(15));
  assert.equal((await page.$$(".node[tabindex='0']")).length, 1);
  await page.focus(".node[tabindex='0']");
  await page.evaluate(() => document.querySelector("[data-node=user]").focus());
  const at = () => page.evaluate(() => document.activeElement.dataset.node);
  const press = async (key, to) => {
    await page.keyboard.press(key);
    await page.waitForFunction((id) => document.activeElement.dataset.node === id, to);
  };
  await press("ArrowRight", "frontend");
  await press("ArrowRight", "recommendation");
  await press("ArrowLeft", "frontend");
  await press("ArrowRight", "recommendation");
  await page.keyboard.press("ArrowDown");
  await page.waitForFunction(() => document.activeElement.dataset.node !== "recommendation");
  const below = await at();
  await page.keyboard.press("Enter");
  await page.waitForSelector(".panel");
  assert.match(await said(page), new RegExp(`sel=${below}`));
  await page.keyboard.press("Escape");
  await page.waitForFunction((id) => document.activeElement.dataset.node === id, below);
  await page.keyboard.press("f");
  await page.waitForSelector(".node.focused");
  await close();
});

test("the slider stops the time, moves nothing, and live goes on", async () => {
  const { page, close } = await visit(new Api(15));
  const before = await places(page);
  const shown = await page.textContent(`${node("frontend")} .num`);
  await page.focus(".slider input");
  for (let i = 0; i < 30; i++) await page.keyboard.press("PageDown");
  await page.waitForSelector(".connection.paused");
  await page.waitForFunction((text) => document.querySelector("[data-node=frontend] .num").textContent !== text, shown);
  assert.match(await said(page), /t=2026-0[67]-\d\dT/);
  assert.deepEqual(await places(page), before);
  await page.click(".golive");
  await page.waitForSelector(".connection.live");
  assert.doesNotMatch(await said(page), /t=/);
  await close();
});

test("two moments are compared: new, gone and changed edges are counted and marked", async () => {
  const { page, close } = await visit(new Api(15));
  const before = await places(page);
  await page.selectOption(".compare select", "6h");
  await page.waitForSelector(".badge.new");
  assert.match(await page.textContent(".badges"), /1 new1 gone\d changed/);
  assert.ok(await page.$(".edge.new[data-edge='checkout→fraud']"));
  assert.ok(await page.$(".node.gone[data-node='tax-legacy']"));
  assert.deepEqual(await places(page), before);
  assert.match(await said(page), /cmp=6h/);
  const slider = await (await page.$(".slider input")).boundingBox();
  await page.keyboard.down("Shift");
  await page.mouse.click(slider.x + slider.width * 0.7, slider.y + 10);
  await page.keyboard.up("Shift");
  await page.waitForFunction(() => /cmp=2026/.test(location.search));
  await close();
});

test("a day later, 300 services have edges that came and went, and the season is no change", async () => {
  const { page, close } = await visit(new Api(300));
  const before = await places(page);
  await page.selectOption(".compare select", "1d");
  await page.waitForSelector(".badge.gone");
  const [, fresh, gone] = /(\d+) new(\d+) gone/.exec(await page.textContent(".badges")).map(Number);
  const { edges } = new Api(300).world;
  assert.deepEqual([fresh, gone], [edges.filter((edge) => edge.fresh && !edge.gone).length, edges.filter((edge) => edge.gone && !edge.fresh).length]);
  assert.deepEqual(await places(page), before);
  // At night everything is less; that alone is no news.
  await page.selectOption(".compare select", "6h");
  await page.waitForFunction(() => /6h/.test(location.search) && document.querySelector(".badges"));
  const changed = Number(/(\d+) changed/.exec(await page.textContent(".badges"))?.[1] ?? 0);
  assert.ok(changed < edges.length / 8, `${changed} of ${edges.length} changed`);
  await close();
});

test("a link opens what it names: tenant, selection, moment, comparison, view and colors", async () => {
  const { page, close } = await visit(new Api(15), "?tenant=shop-test&sel=payment&t=2026-07-01T12:00:00Z&cmp=6h&theme=dark");
  await page.waitForSelector("h2:text-is('payment')");
  await page.waitForSelector(".connection.paused");
  assert.equal(await page.inputValue(".topbar .choice select"), "shop-test");
  assert.equal(await page.getAttribute("html", "data-theme"), "dark");
  await page.waitForSelector(".badges");
  await close();
});

test("the table has everything, sorts and filters", async () => {
  const { page, close } = await visit(new Api(300), "?view=table", { wait: ".table tbody tr" });
  assert.equal((await page.$$(".table tbody tr")).length, 319);
  await page.click(".table thead th:has-text('Service') button");
  assert.equal(await page.getAttribute(".table thead th:has-text('Service')", "aria-sort"), "ascending");
  await page.fill(".search input", "payments-");
  await page.waitForFunction(() => document.querySelectorAll(".table tbody tr").length < 60);
  await page.keyboard.press("Escape");
  await page.click(".table tbody tr:first-child .who");
  await page.waitForSelector(".panel");
  await close();
});

test("the wheel and the buttons zoom, dragging pans, and 0 fits again", async () => {
  const { page, close } = await visit(new Api(15));
  const view = () => page.$eval(".map > g", (g) => g.getAttribute("transform"));
  const fitted = await view();
  await page.mouse.move(700, 780);
  await page.mouse.wheel(0, -300);
  await page.waitForFunction((before) => document.querySelector(".map > g").getAttribute("transform") !== before, fitted);
  await page.click("button[aria-label='Zoom out']");
  const before = await view();
  await page.mouse.move(640, 770);
  await page.mouse.down();
  await page.mouse.move(700, 720, { steps: 4 });
  await page.mouse.up();
  assert.notEqual(await view(), before);
  await page.keyboard.press("0");
  assert.equal(await view(), fitted);
  for (let i = 0; i < 7; i++) await page.click("button[aria-label='Zoom out']");
  assert.ok(await page.$(".map.far"), "names only, from far away");
  await close();
});

test("a server that does not answer leaves the map, says since when, and is asked again", async () => {
  const api = new Api(15);
  const { page, close } = await visit(api);
  api.down = true;
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await page.waitForSelector("[role=alert]:has-text('No answer from the server since 14:30:00')");
  assert.equal((await page.$$(".node")).length, 24);
  assert.ok(await page.$("main.stale"));
  assert.match(await page.textContent(".connection"), /Offline/);
  // It is back, and the user does not wait for the next try.
  api.down = false;
  await page.click("button:text-is('Try now')");
  await page.waitForSelector(".connection.live");
  await page.waitForSelector("[role=alert]", { state: "detached" });
  api.down = true;
  await close();
});

test("without edges the page says what is missing; with parts missing it says at least", async () => {
  const api = new Api(15);
  api.empty = true;
  const { page, close } = await visit(api, "", { wait: ".empty" });
  assert.match(await page.textContent(".empty"), /No spans yet for shop-prod.*2 min.*1,200 in a minute/s);
  assert.deepEqual(await violations(page), []);
  api.empty = false;
  api.partial = ["otlp_spans[3] is behind"];
  await page.click("button:text-is('Look again')");
  await page.waitForSelector(".banner.partial:has-text('otlp_spans[3] is behind')");
  await close();
});

test("services without calls are shown, and it is said that edges are still to come", async () => {
  const api = new Api(15);
  api.world.edges = [];
  const { page, close } = await visit(api);
  await page.waitForSelector(".banner:has-text('No edges yet.')");
  assert.match(await page.textContent(node("cart")), /0\/s · –/);
  assert.doesNotMatch(await page.textContent("body"), /NaN|undefined|Infinity/);
  await close();
});

test("a node shows its numbers and its past under the pointer", async () => {
  const { page, close } = await visit(new Api(15));
  await page.hover(node("payment"));
  await page.waitForSelector(".hovercard .spark");
  assert.match(await page.textContent(".hovercard"), /payment.*by server spans.*p95/s);
  await close();
});

test("below 1060 px the panel lies over the map, and the selected node beside it", async () => {
  const { page, close } = await visit(new Api(15), "", { width: 900 });
  await page.click(node("payment"));
  await page.waitForSelector(".panel");
  const [panel, card] = await page.evaluate(() => [".panel", ".selected .card"].map((one) => document.querySelector(one).getBoundingClientRect().toJSON()));
  assert.equal(panel.right, 900);
  assert.ok(card.right <= panel.left, `${card.right} and ${panel.left}`);
  await close();
});

for (const theme of ["light", "dark"]) {
  for (const [name, services, query] of [
    ["map", 15, "?"], ["panel", 15, "?sel=checkout"], ["edge", 15, "?sel=checkout→payment"], ["comparison", 15, "?cmp=6h"],
    ["groups", 300, "?"], ["table", 300, "?view=table"], ["namespace", 300, "?ns=orders"],
  ]) {
    test(`axe finds nothing: ${name}, ${theme}`, async () => {
      const { page, close } = await visit(new Api(services), `${query}&theme=${theme}`, { wait: name === "table" ? ".table tbody tr" : ".node" });
      if (query.includes("sel")) await page.waitForSelector(".chart .line[d^=M]");
      assert.deepEqual(await violations(page), []);
      await close();
    });
  }
}

test("text and edges have contrast in both themes", async () => {
  const { page, close } = await visit(new Api(15));
  for (const theme of ["light", "dark"]) {
    const ratios = await page.evaluate((theme) => {
      document.documentElement.dataset.theme = theme;
      const style = getComputedStyle(document.documentElement);
      const rgb = (name) => {
        const hex = style.getPropertyValue(name).trim().replace("#", "");
        const long = hex.length === 3 ? [...hex].map((c) => c + c).join("") : hex;
        return [0, 2, 4].map((i) => parseInt(long.slice(i, i + 2), 16) / 255);
      };
      const light = (name) => {
        const [r, g, b] = rgb(name).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ratio = (a, b) => {
        const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
        return (x + 0.05) / (y + 0.05);
      };
      const text = ["--text", "--text-2", "--text-3", "--t1", "--t2", "--t3", "--accent"].flatMap((name) => ["--bg", "--surface"].map((on) => [name, on, ratio(name, on), 4.5]));
      const lines = ["--e0", "--e1", "--e2", "--e3", "--new"].map((name) => [name, "--bg", ratio(name, "--bg"), 3]);
      return [...text, ...lines, ["--new", "--new-on", ratio("--new", "--new-on"), 4.5], ["--changed", "--changed-on", ratio("--changed", "--changed-on"), 4.5]];
    }, theme);
    for (const [name, on, found, least] of ratios) assert.ok(found >= least, `${theme}: ${name} on ${on}: ${found.toFixed(2)}`);
  }
  await close();
});

test("300 and 1,000 services are painted and answer within their budgets", async () => {
  for (const [services, budget] of [[300, 6_000], [1000, 9_000]]) {
    const { page, close } = await visit(new Api(services));
    const painted = await page.evaluate(() => ({ paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime, now: performance.now() }));
    const timed = (what) => page.evaluate(async (what) => {
      const began = performance.now();
      const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      if (what === "hover") document.querySelector(".edge").dispatchEvent(new PointerEvent("pointerenter", { bubbles: false }));
      if (what === "zoom") document.querySelector("button[aria-label='Zoom in']").click();
      if (what === "open") document.querySelector(".node.is-group").dispatchEvent(new MouseEvent("click", { bubbles: true }));
      if (what === "open") while (!document.querySelector(".pill") || !document.querySelector(".node")) await frame();
      await frame();
      return Math.round(performance.now() - began);
    }, what);
    const [hover, zoom, open] = [await timed("hover"), await timed("zoom"), await timed("open")];
    console.log(`      ${services} services: first paint ${Math.round(painted.paint)} ms, map ${Math.round(painted.now)} ms, hover ${hover} ms, zoom ${zoom} ms, a namespace ${open} ms`);
    assert.ok(painted.now < budget && hover < 1_000 && zoom < 1_000 && open < 5_000);
    await close();
  }
});

async function screenshots() {
  const out = join(ROOT, "docs/images");
  mkdirSync(out, { recursive: true });
  for (const [name, services, query] of [["map", 15, "?"], ["map-compare-dark", 15, "?cmp=6h&sel=checkout&theme=dark"], ["map-300", 300, "?"], ["map-300-dark", 300, "?ns=orders&theme=dark"]]) {
    const { page, close } = await visit(new Api(services), query);
    if (query.includes("sel")) await page.waitForSelector(".chart .line[d^=M]");
    await page.screenshot({ path: join(out, `${name}.png`) });
    await close();
  }
}

let failed = 0;
const began = performance.now();
for (const [name, body] of pictures ? [["screenshots", screenshots]] : tests.filter(([name]) => !only || name.includes(only))) {
  const start = performance.now();
  try {
    await body();
    console.log(`ok   ${name} (${Math.round(performance.now() - start)} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n${error.stack}`);
    await Promise.all(context.pages().slice(1).map((page) => page.close()));
  }
}
await context.close();
rmSync(profile, { recursive: true, force: true });
console.log(`${failed ? `${failed} failed` : "all passed"} in ${Math.round((performance.now() - began) / 1000)} s`);
process.exit(failed ? 1 : 0);
