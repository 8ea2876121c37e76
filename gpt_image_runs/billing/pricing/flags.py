"""The flags that a cost may carry, and what each means to the reader of the bill. A flag never changes an amount."""

from collections.abc import Iterable

USAGE_MISSING = "usage_missing"
ESTIMATED = "estimated"
INPUT_TOKENS_NOT_ESTIMATED = "input_tokens_not_estimated"
INPUT_TOKENS_MISSING = "input_tokens_missing"
OUTPUT_TOKENS_MISSING = "output_tokens_missing"
TOTAL_TOKENS_MISMATCH = "total_tokens_mismatch"
REPORTED_ZERO = "reported_zero"
INPUT_SPLIT_MISSING = "input_split_missing"
OUTPUT_SPLIT_MISSING = "output_split_missing"
DETAILS_DO_NOT_ADD_UP = "details_do_not_add_up"
LIST_COST_IS_UPPER_BOUND = "list_cost_is_upper_bound"
BATCH_PRICE = "batch_price"
RECOVERED = "recovered"

MEANINGS = {
    USAGE_MISSING: "The provider returned no usage.",
    ESTIMATED: "The amount is estimated from size, quality and number of the pictures returned.",
    INPUT_TOKENS_NOT_ESTIMATED: "The estimate leaves out the input, which cannot be told without usage.",
    INPUT_TOKENS_MISSING: "The usage names no input_tokens; they count as zero.",
    OUTPUT_TOKENS_MISSING: "The usage names no output_tokens; they count as zero.",
    TOTAL_TOKENS_MISMATCH: "The usage's total_tokens is not the sum of its input and output tokens, which are what is billed.",
    REPORTED_ZERO: "Every token count that the provider reported is zero, so the amount is.",
    INPUT_SPLIT_MISSING: "The input of an edit is not split into text and image tokens; all of it is priced as the dearer.",
    OUTPUT_SPLIT_MISSING: "The output is not split into text and image tokens; all of it is priced as the dearer.",
    DETAILS_DO_NOT_ADD_UP: "Text and image tokens fall short of the total; the rest is priced as the dearer of the two.",
    LIST_COST_IS_UPPER_BOUND: "The usage does not fully tell text from image tokens, so the list cost is an upper bound; the charge is not.",
    BATCH_PRICE: "The request ran in a batch of the provider; it is priced by the batch rate cards.",
    RECOVERED: "The ledger had lost the request, which was taken back from what the image store or Temporal kept of it.",
}


def sort_flags(flags: Iterable[str]) -> tuple[str, ...]:
    """Return the flags without repetition, in the order of `MEANINGS`."""
    given = set(flags)
    return tuple(flag for flag in MEANINGS if flag in given)
