//! @NAME@: a program in a domain of its own.

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    println!("Hello from @NAME@, with {} words: {words:?}", words.len());
}
