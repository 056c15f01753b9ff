#include <stdio.h>
#include <string.h>

#include "count.h"

static int failures;

static void expect(const char *claim, struct count got, size_t lines, size_t words, size_t bytes)
{
	int ok = got.lines == lines && got.words == words && got.bytes == bytes;

	printf("%s - %s\n", ok ? "ok" : "not ok", claim);
	if (!ok) {
		printf("# expected %zu/%zu/%zu, got %zu/%zu/%zu\n", lines, words, bytes, got.lines, got.words, got.bytes);
		failures++;
	}
}

static struct count of(const char *text)
{
	struct count count = {0};

	count_bytes(&count, text, strlen(text));
	return count;
}

int main(void)
{
	struct count split = {0};

	expect("an empty text has nothing", of(""), 0, 0, 0);
	expect("a last line needs no newline to have words", of("one two"), 0, 2, 7);
	expect("runs of blanks separate once", of("  a \t b\n\nc\n"), 3, 3, 11);
	expect("bytes over 127 belong to words", of("\xc3\xa4rger\n"), 1, 1, 7);

	count_bytes(&split, "ban", 3);
	count_bytes(&split, "ger vm", 6);
	expect("a word split between reads counts once", split, 0, 2, 9);
	return failures != 0;
}
