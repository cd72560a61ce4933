//! Conditions of the Collector's filter processor, in the simple forms of its language: comparisons of an attribute, the name,
//! the kind or the status of a span with a value, `IsMatch`, and `and`, `or`, `not` and parentheses around them.

use std::fmt::Write as _;

/// The maximum number of alternatives of a simple form.
const MOST: usize = 32;
const KINDS: [&str; 6] = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
const STATUSES: [&str; 3] = ["UNSET", "OK", "ERROR"];

/// Spans that a condition drops, as one filter policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// The policy in YAML.
    pub(super) text: String,
    /// Whether it has a regular expression that the condition had, too.
    pub(super) regex: bool,
}

/// A condition on a span.
#[derive(Debug, Clone, PartialEq)]
struct Test {
    /// As a policy writes it.
    key: String,
    value: ConditionValue,
}

#[derive(Debug, Clone, PartialEq)]
enum ConditionValue {
    Text(String),
    /// A number or a boolean, as it stands.
    Plain(String),
    Regex(String),
    /// The attribute is there.
    Present,
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Test(Test),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

/// A test that must hold, or must not.
type Literal = (bool, Test);

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(String),
    Sign(&'static str),
}

/// The policies that drop what a condition drops.
///
/// # Errors
/// The part that is not understood, or cannot be expressed as a policy.
pub(super) fn policies(condition: &str) -> Result<Vec<Policy>, String> {
    let mut parser = Parser { tokens: tokens(condition)?, at: 0 };
    let expression = parser.any()?;
    if let Some(token) = parser.peek() {
        return Err(format!("{} is not expected there", shown(token)));
    }
    alternatives(&expression, true)?.iter().map(|literals| policy(literals)).collect()
}

/// The policies that keep what one of the conditions holds for; none keep everything.
///
/// # Errors
/// The part that is not understood, or cannot be expressed as policies.
pub(super) fn keeping(conditions: &[String]) -> Result<Vec<String>, String> {
    let mut all: Vec<Vec<Literal>> = Vec::new();
    for condition in conditions {
        let mut parser = Parser { tokens: tokens(condition)?, at: 0 };
        let expression = parser.any()?;
        if let Some(token) = parser.peek() {
            return Err(format!("{} is not expected there", shown(token)));
        }
        all.extend(alternatives(&expression, true)?);
    }
    let single =
        |(holds, test): &Literal| block(if *holds { "include" } else { "exclude" }, std::slice::from_ref(test));
    match all.as_slice() {
        // Everything must hold: one policy each.
        [literals] => literals.iter().map(single).collect(),
        alternatives => alternatives.iter().map(|literals| any_of(literals)).collect(),
    }
}

/// One alternative of several.
fn any_of(literals: &[Literal]) -> Result<String, String> {
    if literals.iter().any(|(holds, _)| !holds) {
        return Err("negates a condition that is one of several".to_owned());
    }
    let tests: Vec<Test> = literals.iter().map(|(_, test)| test.clone()).collect();
    block("include_any", &tests)
}

/// The scope and the name of an attribute, if an expression is one and nothing else.
pub(super) fn attribute_of(expression: &str) -> Option<(&'static str, String)> {
    let tokens = tokens(expression).ok()?;
    let [path @ .., Token::Sign("["), Token::Text(name), Token::Sign("]")] = tokens.as_slice() else { return None };
    let path: Vec<&str> = path.iter().map(|token| if let Token::Word(word) = token { word } else { "." }).collect();
    let scope = match path.concat().as_str() {
        "attributes" | "span.attributes" => "span",
        "resource.attributes" => "resource",
        _ => return None,
    };
    Some((scope, name.clone()))
}

/// One alternative: an `exclude` of what must hold, or an `include` of what must not hold alone.
fn policy(literals: &[Literal]) -> Result<Policy, String> {
    let block = match literals {
        [(false, _)] => "include",
        _ if literals.iter().all(|(holds, _)| *holds) => "exclude",
        _ => return Err("negates a condition beside another condition".to_owned()),
    };
    let tests: Vec<Test> = literals.iter().map(|(_, test)| test.clone()).collect();
    let regex = tests.iter().any(|test| matches!(test.value, ConditionValue::Regex(_)));
    Ok(Policy { text: self::block(block, &tests)?, regex })
}

/// A policy with one block.
fn block(block: &str, tests: &[Test]) -> Result<String, String> {
    let pattern = tests.iter().any(|test| matches!(test.value, ConditionValue::Regex(_) | ConditionValue::Present));
    let mut text = format!("{{{block}: {{match_type: {}, attributes: [", if pattern { "regex" } else { "strict" });
    for (i, test) in tests.iter().enumerate() {
        let value = match &test.value {
            ConditionValue::Regex(pattern) => quoted(pattern),
            ConditionValue::Present => quoted("^"),
            ConditionValue::Text(text) if pattern => quoted(&format!("^{}$", regex::escape(text))),
            ConditionValue::Text(text) => quoted(text),
            ConditionValue::Plain(_) if pattern => return Err("has a number beside a regular expression".to_owned()),
            ConditionValue::Plain(value) => value.clone(),
        };
        let comma = if i > 0 { ", " } else { "" };
        write!(text, "{comma}{{key: {}, value: {value}}}", quoted(&test.key)).expect("a string takes everything");
    }
    text.push_str("]}}");
    Ok(text)
}

/// The alternatives of an expression that holds, or that does not: each is a list of what must hold together.
fn alternatives(expression: &Expression, holds: bool) -> Result<Vec<Vec<Literal>>, String> {
    let out = match (expression, holds) {
        (Expression::Test(test), _) => vec![vec![(holds, test.clone())]],
        (Expression::Not(inner), _) => alternatives(inner, !holds)?,
        (Expression::Or(one, other), true) | (Expression::And(one, other), false) => {
            [alternatives(one, holds)?, alternatives(other, holds)?].concat()
        }
        (Expression::And(one, other), true) | (Expression::Or(one, other), false) => {
            let (ones, others) = (alternatives(one, holds)?, alternatives(other, holds)?);
            ones.iter().flat_map(|one| others.iter().map(|other| [one.clone(), other.clone()].concat())).collect()
        }
    };
    if out.len() > MOST { Err(format!("has more than {MOST} alternatives")) } else { Ok(out) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes everything"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(text) | Token::Number(text) => format!("`{text}`"),
        Token::Text(_) => "a text".to_owned(),
        Token::Sign(sign) => format!("`{sign}`"),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    const SIGNS: [&str; 12] = ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ",", "."];
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' {
            let (token, length) = string(rest)?;
            out.push(Token::Text(token));
            length
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            out.push(Token::Sign(sign));
            sign.len()
        } else {
            let number = first.is_ascii_digit() || first == '-';
            let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (number && (c == '.' || c == '-'));
            let length = rest.find(|c| !part(c)).unwrap_or(rest.len());
            let word = rest
                .get(..length)
                .filter(|word| !word.is_empty())
                .ok_or_else(|| format!("{first:?} is not understood"))?;
            out.push(if number { Token::Number(word.to_owned()) } else { Token::Word(word.to_owned()) });
            length
        };
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    Ok(out)
}

/// A text in double quotes, and how long it is with them.
fn string(text: &str) -> Result<(String, usize), String> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, at + 1)),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                // Expressions are often written with one backslash.
                Some((_, c)) => out.extend(['\\', c]),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("has a text without an end".to_owned())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

/// One side of a comparison.
enum Operand {
    Key(String),
    Text(String),
    Plain(String),
    Nil,
}

// === impl Parser ===

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.peek().cloned().ok_or("ends too early")?;
        self.at += 1;
        Ok(token)
    }

    fn takes(&mut self, wanted: &Token) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        self.takes(&Token::Word(word.to_owned()))
    }

    fn sign(&mut self, sign: &'static str) -> Result<(), String> {
        let found = self.takes(&Token::Sign(sign));
        if found { Ok(()) } else { Err(format!("`{sign}` is missing")) }
    }

    fn any(&mut self) -> Result<Expression, String> {
        let mut left = self.all()?;
        while self.word("or") {
            left = Expression::Or(Box::new(left), Box::new(self.all()?));
        }
        Ok(left)
    }

    fn all(&mut self) -> Result<Expression, String> {
        let mut left = self.one()?;
        while self.word("and") {
            left = Expression::And(Box::new(left), Box::new(self.one()?));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Expression, String> {
        if self.word("not") {
            return Ok(Expression::Not(Box::new(self.one()?)));
        }
        if self.takes(&Token::Sign("(")) {
            let inner = self.any()?;
            self.sign(")")?;
            return Ok(inner);
        }
        for (function, pattern) in [
            ("IsMatch", (|text| text) as fn(String) -> String),
            ("HasPrefix", |text| format!("^{}", regex::escape(&text))),
            ("HasSuffix", |text| format!("{}$", regex::escape(&text))),
        ] {
            if self.word(function) {
                return self.function(pattern);
            }
        }
        self.comparison()
    }

    fn function(&mut self, pattern: fn(String) -> String) -> Result<Expression, String> {
        self.sign("(")?;
        let Operand::Key(key) = self.operand()? else {
            return Err("matches a value that does not belong to a span".to_owned());
        };
        self.sign(",")?;
        let Operand::Text(text) = self.operand()? else { return Err("does not match against a text".to_owned()) };
        self.sign(")")?;
        if matches!(key.as_str(), "kind" | "status") {
            return Err("matches a kind or a status, which are numbers there".to_owned());
        }
        Ok(Expression::Test(Test { key, value: ConditionValue::Regex(pattern(text)) }))
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        let left = self.operand()?;
        let sign = self.next()?;
        let equal = match sign {
            Token::Sign("==") => true,
            Token::Sign("!=") => false,
            other => return Err(format!("{} is not a comparison that a policy supports", shown(&other))),
        };
        let right = self.operand()?;
        let ((Operand::Key(key), value) | (value, Operand::Key(key))) = (left, right) else {
            return Err("compares two values".to_owned());
        };
        let test = |value| Expression::Test(Test { key: key.clone(), value });
        let found = match value {
            Operand::Key(_) => return Err("compares two parts of a span".to_owned()),
            Operand::Text(text) if matches!(key.as_str(), "kind" | "status") => {
                test(ConditionValue::Text(named(&key, &text)?))
            }
            Operand::Plain(text) if matches!(key.as_str(), "kind" | "status") => {
                test(ConditionValue::Text(named(&key, &text)?))
            }
            Operand::Text(text) => test(ConditionValue::Text(text)),
            Operand::Plain(_) if key == "name" => {
                return Err("compares a name with a value that is not a text".to_owned());
            }
            Operand::Plain(value) => test(ConditionValue::Plain(value)),
            // Presence is the opposite of nil.
            Operand::Nil if key.contains('.') => Expression::Not(Box::new(test(ConditionValue::Present))),
            Operand::Nil => return Err("compares with nil a value that is always present".to_owned()),
        };
        Ok(if equal { found } else { Expression::Not(Box::new(found)) })
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let word = match self.next()? {
            Token::Text(text) => return Ok(Operand::Text(text)),
            Token::Number(number) => return Ok(Operand::Plain(number)),
            Token::Word(word) => word,
            other @ Token::Sign(_) => return Err(format!("{} is not expected there", shown(&other))),
        };
        match word.as_str() {
            "nil" => return Ok(Operand::Nil),
            "true" | "false" => return Ok(Operand::Plain(word)),
            _ if word.starts_with("SPAN_KIND_") || word.starts_with("STATUS_CODE_") => return Ok(Operand::Text(word)),
            _ => {}
        }
        let mut path = vec![word];
        while self.takes(&Token::Sign(".")) {
            match self.next()? {
                Token::Word(word) => path.push(word),
                other => return Err(format!("{} is not expected there", shown(&other))),
            }
        }
        if path.len() > 1 && path.first().is_some_and(|first| first == "span") {
            path.remove(0);
        }
        let path = path.join(".");
        let scope = match path.as_str() {
            "name" => return Ok(Operand::Key("name".to_owned())),
            "kind" | "kind.string" => return Ok(Operand::Key("kind".to_owned())),
            "status.code" => return Ok(Operand::Key("status".to_owned())),
            "attributes" => "span",
            "resource.attributes" => "resource",
            other => return Err(format!("`{other}` is not supported in filters")),
        };
        self.sign("[")?;
        let Token::Text(name) = self.next()? else {
            return Err("an attribute must be named by a text in brackets".to_owned());
        };
        self.sign("]")?;
        if self.peek() == Some(&Token::Sign("[")) {
            return Err("accesses a part of an attribute".to_owned());
        }
        Ok(Operand::Key(format!("{scope}.{}", attribute(&name))))
    }
}

/// The name of a kind or a status, which may be given as a number or in a short form.
fn named(key: &str, text: &str) -> Result<String, String> {
    let (prefix, names): (_, &[&str]) =
        if key == "kind" { ("SPAN_KIND_", &KINDS) } else { ("STATUS_CODE_", &STATUSES) };
    let short = text.strip_prefix(prefix).unwrap_or(text).to_ascii_uppercase();
    let number = text.parse::<usize>().ok().and_then(|number| names.get(number).copied());
    let found = number.or_else(|| names.iter().copied().find(|name| *name == short));
    found.map(|name| format!("{prefix}{name}")).ok_or_else(|| format!("`{text}` is not a {key}"))
}

/// The name of an attribute in a policy's key.
fn attribute(name: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !"{}()=~!<>&|^,\"\\".contains(c);
    if name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

#[cfg(test)]
mod tests {
    use super::policies;

    fn texts(condition: &str) -> Vec<String> {
        let found = policies(condition).unwrap_or_else(|why| panic!("{condition}: {why}"));
        found.into_iter().map(|policy| policy.text).collect()
    }

    fn strict(block: &str, key: &str, value: &str) -> String {
        format!("{{{block}: {{match_type: strict, attributes: [{{key: \"{key}\", value: {value}}}]}}}}")
    }

    fn regex(block: &str, key: &str, value: &str) -> String {
        strict(block, key, value).replace("strict", "regex")
    }

    #[test]
    fn simple_conditions_become_policies() {
        for (condition, policy) in [
            (r#"attributes["http.route"] == "/health""#, strict("exclude", "span.http.route", "\"/health\"")),
            (r#"span.attributes["http.status_code"] == 200"#, strict("exclude", "span.http.status_code", "200")),
            (r#"attributes["a"] == true"#, strict("exclude", "span.a", "true")),
            (r#"attributes["a"] == "200""#, strict("exclude", "span.a", "\"200\"")),
            (r#""probe" == name"#, strict("exclude", "name", "\"probe\"")),
            (r#"resource.attributes["service.name"] == "x""#, strict("exclude", "resource.service.name", "\"x\"")),
            ("kind == SPAN_KIND_INTERNAL", strict("exclude", "kind", "\"SPAN_KIND_INTERNAL\"")),
            ("span.kind == 2", strict("exclude", "kind", "\"SPAN_KIND_SERVER\"")),
            (r#"kind.string == "Client""#, strict("exclude", "kind", "\"SPAN_KIND_CLIENT\"")),
            ("status.code == STATUS_CODE_OK", strict("exclude", "status", "\"STATUS_CODE_OK\"")),
            (r#"IsMatch(name, "^GET /h.*")"#, regex("exclude", "name", "\"^GET /h.*\"")),
            (r#"HasPrefix(name, "a.b")"#, regex("exclude", "name", "\"^a\\\\.b\"")),
            (r#"not IsMatch(attributes["x"], "\\d")"#, regex("include", "span.x", "\"\\\\d\"")),
            (r#"attributes["a b"] != "v""#, strict("include", "span.\\\"a b\\\"", "\"v\"")),
            (r#"attributes["a"] == nil"#, regex("include", "span.a", "\"^\"")),
            (r#"attributes["a"] != nil"#, regex("exclude", "span.a", "\"^\"")),
        ] {
            assert_eq!(texts(condition), [policy], "{condition}");
        }
    }

    #[test]
    fn and_is_one_policy_and_or_are_several() {
        let two = r#"name == "a" and (kind == SPAN_KIND_SERVER or attributes["x"] == 1)"#;
        assert_eq!(
            texts(two),
            [
                r#"{exclude: {match_type: strict, attributes: [{key: "name", value: "a"}, {key: "kind", value: "SPAN_KIND_SERVER"}]}}"#,
                r#"{exclude: {match_type: strict, attributes: [{key: "name", value: "a"}, {key: "span.x", value: 1}]}}"#,
            ]
        );
        assert_eq!(
            texts(r#"name == "a.b" and IsMatch(attributes["x"], "y")"#),
            [
                r#"{exclude: {match_type: regex, attributes: [{key: "name", value: "^a\\.b$"}, {key: "span.x", value: "y"}]}}"#
            ]
        );
        // What is kept must have both.
        assert_eq!(texts(r#"not (name == "a" and name == "b")"#).len(), 2);
    }

    #[test]
    fn what_one_condition_holds_for_is_kept() {
        let keep =
            |conditions: &[&str]| super::keeping(&conditions.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(keep(&[]), Ok(Vec::new()));
        assert_eq!(
            keep(&[
                r#"IsMatch(name, "a") and attributes["b"] == 1 and attributes["c"] != nil and kind != SPAN_KIND_SERVER"#
            ]),
            Ok(vec![
                regex("include", "name", "\"a\""),
                strict("include", "span.b", "1"),
                regex("include", "span.c", "\"^\""),
                strict("exclude", "kind", "\"SPAN_KIND_SERVER\""),
            ])
        );
        assert_eq!(
            keep(&[r#"name == "a""#, r#"name == "b""#]),
            Ok(vec![strict("include_any", "name", "\"a\""), strict("include_any", "name", "\"b\"")])
        );
        for (conditions, why) in [
            (&[r#"name == "a""#, r#"name != "b""#][..], "one of several"),
            (&[r#"attributes["a"] > 5"#], "is not a comparison"),
        ] {
            assert!(keep(conditions).expect_err("not expressible").contains(why));
        }
    }

    #[test]
    fn what_a_policy_cannot_say_is_told() {
        for (condition, why) in [
            (r#"attributes["a"] > 5"#, "is not a comparison"),
            (r#"name == "a" and attributes["b"] != "c""#, "negates a condition"),
            (r#"IsMatch(name, "a") and attributes["b"] == 1"#, "a number beside a regular expression"),
            (r#"end_time_unix_nano - start_time_unix_nano < 5"#, "`end_time_unix_nano` is not supported in filters"),
            (r#"attributes["a"]["b"] == "c""#, "accesses a part of an attribute"),
            (r#"trace_id == TraceID(0x00)"#, "`trace_id` is not supported in filters"),
            (r#"name == "a"#, "without an end"),
            (r#"name == "a" name"#, "`name` is not expected there"),
            ("name ==", "ends too early"),
            ("kind == 9", "`9` is not a kind"),
            ("IsRootSpan()", "`IsRootSpan` is not supported in filters"),
            ("", "ends too early"),
            ("{{ x }}", "is not understood"),
        ] {
            let error = policies(condition).expect_err(condition);
            assert!(error.contains(why), "{condition}: {error}");
        }
    }
}
