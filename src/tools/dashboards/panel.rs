//! A dashboard as Grafana reads it.

use serde_json::{Value, json};

/// The version of the schema that is written; newer versions of Grafana migrate it when they load it.
const SCHEMA: u32 = 39;
/// The width of a dashboard, in Grafana's units.
const WIDTH: u32 = 24;

/// A dashboard.
#[derive(Debug, Clone)]
pub struct Dashboard {
    /// The file's name.
    pub file: &'static str,
    /// Its identity in Grafana.
    pub uid: &'static str,
    /// Its title.
    pub title: &'static str,
    /// One line on what it shows.
    pub description: &'static str,
    /// What can be chosen at its top, besides the data source.
    pub variables: Vec<Variable>,
    /// Rows with a title, from the top.
    pub rows: Vec<(&'static str, Vec<Panel>)>,
}

/// Something that can be chosen at the top.
#[derive(Debug, Clone)]
pub struct Variable {
    /// The name, as in `$service`.
    pub name: &'static str,
    /// The label in front of it.
    pub label: &'static str,
    /// A query of Grafana, such as `label_values(metric, label)`.
    pub query: &'static str,
}

/// How a panel looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Lines over time.
    Lines,
    /// One number.
    Number,
    /// Rows of the present; queries are joined by their labels.
    Table,
    /// Circles and arrows.
    Nodes,
}

/// One panel.
#[derive(Debug, Clone)]
pub struct Panel {
    /// The title.
    pub title: &'static str,
    /// What it shows and which values are a problem.
    pub description: &'static str,
    pub(super) look: Look,
    /// The unit, in Grafana's names.
    pub(super) unit: &'static str,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Its queries.
    pub queries: Vec<Query>,
}

/// One query of a panel.
#[derive(Debug, Clone)]
pub struct Query {
    /// `PromQL`, with Grafana's variables.
    pub expr: String,
    /// The legend of its lines; the column's title in a table; what it is of in a graph: `nodes` or `edges`.
    pub legend: &'static str,
    /// The unit of a table's column; empty: that of the panel.
    pub unit: &'static str,
}

// === impl Query ===

impl Query {
    pub(super) fn new(legend: &'static str, expr: impl Into<String>) -> Self {
        Self { expr: expr.into(), legend, unit: "" }
    }

    pub(super) fn column(title: &'static str, unit: &'static str, expr: impl Into<String>) -> Self {
        Self { expr: expr.into(), legend: title, unit }
    }
}

// === impl Panel ===

impl Panel {
    pub(super) fn lines(
        title: &'static str,
        description: &'static str,
        unit: &'static str,
        queries: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let queries = queries.into_iter().map(|(legend, expr)| Query::new(legend, expr)).collect();
        Self { title, description, look: Look::Lines, unit, width: 8, height: 8, queries }
    }

    pub(super) fn number(title: &'static str, description: &'static str, unit: &'static str, expr: String) -> Self {
        let queries = vec![Query::new("", expr)];
        Self { title, description, look: Look::Number, unit, width: 4, height: 4, queries }
    }

    pub(super) fn table(title: &'static str, description: &'static str, queries: Vec<Query>) -> Self {
        Self { title, description, look: Look::Table, unit: "short", width: WIDTH, height: 10, queries }
    }

    pub(super) fn sized(self, width: u32, height: u32) -> Self {
        Self { width, height, ..self }
    }

    fn json(&self, id: usize, x: u32, y: u32) -> Value {
        let mut panel = json!({
            "id": id,
            "title": self.title,
            "description": self.description,
            "type": self.look.name(),
            "datasource": datasource(),
            "gridPos": { "x": x, "y": y, "w": self.width, "h": self.height },
            "targets": self.queries.iter().zip('A'..).map(|(query, id)| self.target(query, id)).collect::<Value>(),
            "fieldConfig": { "defaults": { "unit": self.unit, "noValue": "–" }, "overrides": self.overrides() },
            "options": self.options(),
        });
        if matches!(self.look, Look::Table | Look::Nodes) {
            panel["transformations"] = self.transformations();
        }
        panel
    }

    fn target(&self, query: &Query, id: char) -> Value {
        let now = self.look != Look::Lines;
        let id = if self.look == Look::Nodes { query.legend.to_owned() } else { id.to_string() };
        let mut target = json!({
            "refId": id,
            "datasource": datasource(),
            "expr": query.expr,
            "instant": now,
            "range": !now,
            "format": if matches!(self.look, Look::Table | Look::Nodes) { "table" } else { "time_series" },
        });
        if self.look == Look::Lines {
            target["legendFormat"] = query.legend.into();
            target["exemplar"] = query.expr.contains("_bucket").into();
        }
        target
    }

    /// The columns of a table have units of their own.
    fn overrides(&self) -> Value {
        let columns = self.queries.iter().filter(|query| self.look == Look::Table && !query.unit.is_empty());
        let column = |query: &Query| {
            json!({
                "matcher": { "id": "byName", "options": query.legend },
                "properties": [{ "id": "unit", "value": query.unit }],
            })
        };
        columns.map(column).collect()
    }

    fn options(&self) -> Value {
        match self.look {
            Look::Lines => json!({
                "legend": { "displayMode": "list", "placement": "bottom" },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Look::Number => json!({ "reduceOptions": { "calcs": ["lastNotNull"] }, "graphMode": "none" }),
            Look::Table => json!({ "showHeader": true }),
            Look::Nodes => json!({ "nodes": { "mainStatUnit": self.unit }, "edges": { "mainStatUnit": self.unit } }),
        }
    }

    /// One row for the same labels, and the titles of the columns.
    fn transformations(&self) -> Value {
        let value = |(query, id): (&Query, char)| match self.look {
            Look::Nodes => (format!("Value #{}", query.legend), "mainstat"),
            _ => (format!("Value #{id}"), query.legend),
        };
        let names: Value = self
            .queries
            .iter()
            .zip('A'..)
            .map(value)
            .map(|(from, to)| (from, to.into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let organize = json!({
            "id": "organize",
            "options": { "excludeByName": { "Time": true }, "renameByName": names },
        });
        if self.look == Look::Table { json!([{ "id": "merge", "options": {} }, organize]) } else { json!([organize]) }
    }
}

// === impl Look ===

impl Look {
    fn name(self) -> &'static str {
        match self {
            Self::Lines => "timeseries",
            Self::Number => "stat",
            Self::Table => "table",
            Self::Nodes => "nodeGraph",
        }
    }
}

// === impl Dashboard ===

impl Dashboard {
    /// All panels.
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|(_, panels)| panels)
    }

    /// The file.
    #[must_use]
    pub fn json(&self) -> String {
        let source =
            json!({ "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus" });
        let variables = std::iter::once(source).chain(self.variables.iter().map(Variable::json));
        let dashboard = json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["spanmill"],
            "timezone": "browser",
            "editable": true,
            "graphTooltip": 1,
            "schemaVersion": SCHEMA,
            "version": 1,
            "refresh": "30s",
            "time": { "from": "now-1h", "to": "now" },
            "templating": { "list": variables.collect::<Value>() },
            "panels": self.placed(),
        });
        let mut text = serde_json::to_string_pretty(&dashboard).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Panels from left to right, as many in a line as fit.
    fn placed(&self) -> Value {
        let (mut placed, mut y) = (Vec::new(), 0);
        for (title, panels) in &self.rows {
            placed.push(json!({
                "id": placed.len() + 1,
                "type": "row",
                "title": title,
                "collapsed": false,
                "gridPos": { "x": 0, "y": y, "w": WIDTH, "h": 1 },
                "panels": [],
            }));
            y += 1;
            let (mut x, mut height) = (0, 0);
            for panel in panels {
                if x + panel.width > WIDTH {
                    (x, y, height) = (0, y + height, 0);
                }
                placed.push(panel.json(placed.len() + 1, x, y));
                (x, height) = (x + panel.width, height.max(panel.height));
            }
            y += height;
        }
        placed.into()
    }
}

// === impl Variable ===

impl Variable {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": datasource(),
            "query": { "query": self.query, "refId": self.name },
            "definition": self.query,
            "includeAll": true,
            "allValue": ".*",
            "multi": true,
            "refresh": 2,
            "sort": 1,
            "current": { "text": "All", "value": "$__all" },
        })
    }
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}
