//! Answers with a form: schemas, expressions and grammars on real and made-up models.

mod doors;
mod runs;
mod schemas;
mod tools;
