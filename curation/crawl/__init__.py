"""Reading the web as it was crawled: WARC, HTML files, tables, published corpora, opt-out signals."""
