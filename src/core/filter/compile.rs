//! From policies to conditions.

use regex::bytes::Regex;

use super::condition::{AttributeTest, EnumTest, SpanTest, Wanted};
use super::key::ConditionKey;
use super::{Bits, Filter, FilterError, PolicyBlock};
use crate::core::model::span::{KINDS, STATUSES};
use crate::core::settings::{FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue};

/// Blocks that look at resources so far, and where the present one stands.
struct Compiler {
    looking: u32,
    policy: usize,
    block: Option<&'static str>,
}

/// Compiles all policies into one pool of blocks.
pub(super) fn filter(policies: &[FilterPolicy]) -> Result<Filter, FilterError> {
    let mut filter = Filter::default();
    let mut compiler = Compiler { looking: 0, policy: 0, block: None };
    for policy in policies {
        compiler.policy += 1;
        compiler.block = None;
        let FilterPolicy { include, include_any, exclude } = policy;
        if include.is_none() && include_any.is_none() && exclude.is_none() {
            let problem = "it is empty; write `include`, `include_any` or `exclude`";
            return Err(compiler.error(None, problem.to_owned()));
        }
        compiler.add("include", include.as_ref(), &mut filter.include)?;
        compiler.add("include_any", include_any.as_ref(), &mut filter.include_any)?;
        compiler.add("exclude", exclude.as_ref(), &mut filter.exclude)?;
    }
    Ok(filter)
}

// === impl Compiler ===

impl Compiler {
    fn add(
        &mut self,
        name: &'static str,
        from: Option<&PolicyMatch>,
        blocks: &mut Vec<PolicyBlock>,
    ) -> Result<(), FilterError> {
        self.block = Some(name);
        if let Some(from) = from {
            blocks.push(self.compile(from)?);
        }
        Ok(())
    }

    fn compile(&mut self, from: &PolicyMatch) -> Result<PolicyBlock, FilterError> {
        let mut block = PolicyBlock { policy: self.policy - 1, resource: Vec::new(), bit: 0, span: Vec::new() };
        for PolicyAttribute { key, value } in &from.attributes {
            self.condition(key, value, from.match_type, &mut block)
                .map_err(|problem| self.error(Some(key), problem))?;
        }
        block.span.sort_by_key(SpanTest::is_attribute);
        if !block.resource.is_empty() {
            block.bit = (1 as Bits).checked_shl(self.looking).ok_or_else(|| {
                let remedy = "join some of them with a regular expression such as `^(a|b)$`";
                self.error(None, format!("more than {} blocks match resources; {remedy}", Bits::BITS))
            })?;
            self.looking += 1;
        }
        Ok(block)
    }

    fn condition(&self, key: &str, value: &PolicyValue, how: MatchType, block: &mut PolicyBlock) -> Result<(), String> {
        match ConditionKey::read(key)? {
            ConditionKey::Kind => block.span.push(SpanTest::Kind(enumerated(&KINDS, value, how)?)),
            ConditionKey::Status => block.span.push(SpanTest::Status(enumerated(&STATUSES, value, how)?)),
            ConditionKey::Name => block.span.push(match how {
                MatchType::Strict => SpanTest::Name(text(value)?.as_bytes().into()),
                MatchType::Regex => SpanTest::NamePattern(pattern(value)?),
            }),
            ConditionKey::Span(key) => {
                block.span.push(SpanTest::Attribute(AttributeTest { key, wanted: wanted(value, how)? }));
            }
            ConditionKey::Resource(key) => block.resource.push(AttributeTest { key, wanted: wanted(value, how)? }),
        }
        Ok(())
    }

    fn error(&self, key: Option<&str>, problem: String) -> FilterError {
        FilterError { policy: self.policy, block: self.block, key: key.map(str::to_owned), problem }
    }
}

fn wanted(value: &PolicyValue, how: MatchType) -> Result<Wanted, String> {
    Ok(match (how, value) {
        (MatchType::Regex, value) => Wanted::Pattern(pattern(value)?),
        (MatchType::Strict, PolicyValue::Text(v)) => Wanted::Text(v.as_bytes().into()),
        (MatchType::Strict, PolicyValue::Int(v)) => Wanted::Int(*v),
        (MatchType::Strict, PolicyValue::Float(v)) => Wanted::Float(*v),
        (MatchType::Strict, PolicyValue::Bool(v)) => Wanted::Bool(*v),
    })
}

fn enumerated(names: &[&str], value: &PolicyValue, how: MatchType) -> Result<EnumTest, String> {
    if how == MatchType::Regex {
        return pattern(value).map(|pattern| EnumTest::pattern(names, pattern));
    }
    let value = text(value)?;
    EnumTest::strict(names, value).ok_or_else(|| format!("`{value}` is unknown; write one of {}", names.join(", ")))
}

fn text(value: &PolicyValue) -> Result<&str, String> {
    match value {
        PolicyValue::Text(text) => Ok(text),
        other => Err(format!("the value {} is not text; put it in quotes", shown(other))),
    }
}

fn shown(value: &PolicyValue) -> String {
    match value {
        PolicyValue::Text(v) => v.clone(),
        PolicyValue::Int(v) => v.to_string(),
        PolicyValue::Float(v) => v.to_string(),
        PolicyValue::Bool(v) => v.to_string(),
    }
}

fn pattern(value: &PolicyValue) -> Result<Regex, String> {
    let text = text(value)?;
    Regex::new(text).map_err(|e| format!("`{text}` is not a valid regular expression; correct it: {e}"))
}
