//! The attribute `#[test]` of the crate live-test; see there.

use proc_macro::{TokenStream, TokenTree};

/// Registers a function without arguments as a test of this binary.
///
/// It returns nothing, or a `Result<(), E>` whose error converts to `Box<dyn Error>`.
#[proc_macro_attribute]
pub fn test(_arguments: TokenStream, function: TokenStream) -> TokenStream {
    let source = match name(function.clone()) {
        Some(name) => format!("::live_test::register!({name});"),
        None => "::core::compile_error!(\"#[test] marks a function\");".to_owned(),
    };
    let added: TokenStream = source.parse().expect("it is Rust with any identifier");
    function.into_iter().chain(added).collect()
}

/// The identifier that follows `fn`.
fn name(function: TokenStream) -> Option<String> {
    let is_fn =
        |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn");
    let mut tokens = function.into_iter().skip_while(|token| !is_fn(token));
    tokens.nth(1).map(|name| name.to_string())
}
