//! Templates that try to use up time, memory or the stack, and large conversations that must not.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::environment;
use super::tests::{CHATML, Case, joined, segments, user};

/// Where nothing stopped a template it would take hours; what is stopped takes a fraction of a second, and on a machine that
/// has much else to do less than this.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// Asserts that a template ends in an error soon.
fn stopped(name: &str, source: &str) {
    let started = Instant::now();
    let case = Case {
        source,
        messages: user("hello"),
        tools: Value::Null,
        kwargs: Value::Null,
    };
    let result = case.segments();
    let took = started.elapsed();
    assert!(result.is_err(), "{name} ended in success");
    assert!(took < STOPPED_WITHIN, "{name} took {took:?}");
}

#[test]
fn hostile_templates_are_stopped_soon() {
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(6000), close.repeat(6000));
    stopped("nested ifs", &nested("{% if 1 %}", "{% endif %}"));
    stopped(
        "nested loops",
        &nested("{% for a in [1] %}", "{% endfor %}"),
    );
    stopped("nested lists", &format!("{{{{ {} }}}}", nested("[", "]")));
    stopped(
        "nested parentheses",
        &format!("{{{{ {} }}}}", nested("(", ")")),
    );
    stopped(
        "endless loop",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    );
    stopped(
        "recursive macro",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    );
    stopped(
        "recursive loop",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    );
    stopped(
        "gigabyte by repetition",
        "{{ ('x' * 1000000000) | length }}",
    );
    stopped(
        "gigabyte by doubling",
        "{% set ns = namespace(s='x') %}{% for i in range(30) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s | length }}",
    );
    stopped(
        "gigabyte by replace",
        "{% set s = 'x' * 100000 %}{{ s.replace('x', s).replace('x', s) | length }}",
    );
    stopped(
        "gigabyte by join",
        "{% set s = 'x' * 1000000 %}{{ '-'.join([s] * 10000) | length }}",
    );
    stopped(
        "gigabyte by joining lists",
        "{% set s = 'x' * 1000000 %}{{ '-'.join([[s] * 1000] * 1000) | length }}",
    );
    stopped(
        "gigabyte by width",
        "{{ '{:>1000000000}'.format('x') | length }}",
    );
    stopped(
        "gigabyte by many widths",
        "{% set f = '{:>1000}' * 1000000 %}{{ f.format(1) | length }}",
    );
    stopped(
        "gigabyte by filter width",
        "{{ '%1000000000d' | format(1) | length }}",
    );
    stopped(
        "gigabyte by indent",
        "{{ ('x\n' * 10000) | indent(100000) | length }}",
    );
    stopped(
        "gigabyte of output",
        "{% set s = 'x' * 1000000 %}{% for a in range(10000) %}{{ s }}{% endfor %}",
    );
    stopped(
        "gigabyte of json",
        "{% set s = ['x' * 1000000] * 10000 %}{{ s | tojson | length }}",
    );
    stopped("oversized source", &"x".repeat(1 << 18));
    stopped(
        "deep value",
        "{% set ns = namespace(v=[]) %}{% for i in range(100000) %}{% set ns.v = [ns.v] %}{% endfor %}{{ ns.v | tojson }}",
    );
    stopped("include of itself", "{% include 'chat_template' %}");
}

#[test]
fn chains_that_nest_the_syntax_tree_do_not_overflow_the_stack() {
    let fill = |unit: &str, start: &str, end: &str| {
        let times = (environment::MAX_SOURCE_BYTES - start.len() - end.len()) / unit.len();
        format!("{start}{}{end}", unit.repeat(times))
    };
    for source in [
        fill("-", "{{ ", "1 }}"),
        fill("not ", "{{ ", "1 }}"),
        fill("+1", "{{ 1", " }}"),
        format!("{{{{ 1{} }}}}", "~a".repeat(environment::MAX_TILDES)),
        fill("~a", "{{ a", " }}"),
        fill("**1", "{{ 1", " }}"),
        fill("|e", "{{ 1", " }}"),
        fill(".a", "{{ a", " }}"),
        fill("[0]", "{{ a", " }}"),
        fill("()", "{{ a", " }}"),
        fill(" if 1 else 1", "{{ 1", " }}"),
        fill(" and 1", "{{ 1", " }}"),
        fill(" is odd", "{{ 1", " }}"),
        fill("<1", "{{ 1", " }}"),
        fill("1,", "{{ [", "] }}"),
        fill("1:1,", "{{ {", "} }}"),
        fill("1,", "{{ f(", ") }}"),
        fill("a=1,", "{{ f(", ") }}"),
        fill("{% set a = 1 %}", "", ""),
        fill("{% macro a() %}{% endmacro %}", "", ""),
        fill("{{ a }}", "", ""),
        fill("{#", "", ""),
        fill("{% raw %}{% endraw %}", "", ""),
        fill("a,", "{% for ", "b in c %}{% endfor %}"),
        fill("a=1,", "{% with ", "b=1 %}{% endwith %}"),
        fill("{% break %}", "{% for a in [1] %}", "{% endfor %}"),
        fill("{{ ' ", "", ""),
        fill("{% generation %}", "", ""),
        fill("{%- ", "", ""),
        fill("\n", "", "{% if 1 %}"),
        fill(" ", "", "{%- if 1 %}"),
        fill("{% elif 1 %}", "{% if 0 %}", "{% endif %}"),
        fill("{% else %}{% if 1 %}", "{% if 0 %}", ""),
    ] {
        let started = Instant::now();
        // An error or success, but neither a crash nor a long wait.
        let _ = Case {
            source: &source,
            messages: user("x"),
            tools: Value::Null,
            kwargs: Value::Null,
        }
        .segments();
        let took = started.elapsed();
        assert!(took < STOPPED_WITHIN, "{}… took {took:?}", &source[..20]);
    }
}

#[test]
fn deep_values_are_dropped_and_shown_without_a_crash() {
    for end in [
        "",
        "{{ ns.v }}",
        "{{ ns.v == ns.v }}",
        "{{ ns.v | string | length }}",
        "{{ ns.v < [ns.v] }}",
        "{{ {ns.v: 1} }}",
    ] {
        let source = format!(
            "{{% set ns = namespace(v=[]) %}}{{% for i in range(100000) %}}{{% set ns.v = [ns.v] %}}{{% endfor %}}{end}"
        );
        let started = Instant::now();
        let _ = Case {
            source: &source,
            messages: user("x"),
            tools: Value::Null,
            kwargs: Value::Null,
        }
        .segments();
        assert!(
            started.elapsed() < STOPPED_WITHIN,
            "{end} took {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn ten_megabytes_of_content_are_rendered_in_seconds() {
    let started = Instant::now();
    let content = "<|im_end|> hello world ".repeat(450_000);
    let prompt = segments(CHATML, user(&content));
    assert!(joined(&prompt).contains(&content));
    assert!(
        started.elapsed() < STOPPED_WITHIN,
        "took {:?}",
        started.elapsed()
    );
}
