"""What the four APIs really do, each fact with the tests that hold us to it.

The table is a map for readers; the test below keeps it from naming what is not there.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

FACTS: dict[str, tuple[str, ...]] = {
    # OpenAI and every compatible server
    "the key is a bearer token, the organization a header": (
        "transport/test_transport_endpoints.py::test_each_vendor_gets_the_key_its_own_way",
        "transport/test_transport_endpoints.py::test_organization_and_headers_of_the_user",
    ),
    "an error is an object, a string, a list, a detail or a web page": (
        "wire/test_wire_verdict.py::test_the_vendors_words_are_found_in_every_shape",
        "wire/test_wire_refusals.py::test_the_words_of_an_error_are_kept",
    ),
    "an overflow is known by its code, then by its words": (
        "wire/test_wire_verdict.py::test_an_overflow_is_known_by_code_and_by_phrase",
        "wire/test_wire_verdict.py::test_other_bad_requests_are_no_overflow",
    ),
    "of the 429s rate limits may be retried and spent quotas never": (
        "wire/test_wire_verdict.py::test_an_error_is_typed_by_code_status_and_phrase",
        "wire/test_wire_verdict.py::test_a_rate_limit_that_must_not_be_retried_is_a_spent_quota",
        "wire/test_wire_refusals.py::test_a_vendors_error_has_its_type",
    ),
    "the wait is told in four headers, or in words": (
        "wire/test_wire_verdict.py::test_the_wait_is_read_from_headers",
        "wire/test_wire_verdict.py::test_the_wait_is_read_from_the_vendors_words",
        "wire/test_wire_verdict.py::test_a_date_without_a_clock_beside_it_says_nothing",
    ),
    "a chat stream ends with [DONE], tells its usage when asked, and may carry an error": (
        "wire/test_wire_openai.py::test_usage_is_asked_for_in_streams_only",
        "wire/test_wire_openai.py::test_done_completes_a_reply_without_a_finish_reason",
        "wire/test_wire_openai.py::test_an_error_inside_the_stream_is_typed_and_keeps_what_came",
        "wire/test_wire_varieties.py::test_a_stream_is_read_in_every_spelling",
    ),
    "reasoning models have a limit of their own and no temperature": (
        "wire/test_wire_openai.py::test_reasoning_models_get_their_own_limit_and_no_temperature",
        "wire/test_wire_openai.py::test_other_models_get_max_tokens",
    ),
    "the newest want the responses API, stateless, its reasoning encrypted": (
        "wire/test_wire_verdict.py::test_a_model_that_wants_the_other_api_says_so",
        "wire/test_wire_responses.py::test_a_plain_request_is_small_and_nothing_is_stored",
        "wire/test_wire_responses.py::test_a_reply_goes_back_in_its_order_with_its_encrypted_reasoning",
        "wire/test_wire_responses.py::test_a_stream_without_its_terminal_event_is_incomplete",
        "wire/test_wire_responses.py::test_an_incomplete_response_ends_a_stream",
        "wire/test_wire_responses.py::test_a_failure_inside_the_stream_is_typed_and_keeps_what_came",
    ),
    "prompt tokens include the cached ones": (
        "wire/test_wire_openai.py::test_usage_comes_in_disjoint_buckets",
        "wire/test_wire_varieties.py::test_chat_usage_is_read_in_every_vendors_form",
    ),
    "structured output is a response_format, models have one page": (
        "wire/test_wire_openai.py::test_a_schema_is_strict_where_it_keeps_the_rules",
        "wire/test_wire_openai.py::test_models_and_their_windows",
    ),
    "pieces of calls are keyed by index and a new id starts a new call": (
        "wire/test_wire_openai.py::test_tool_calls_gather",
        "wire/test_wire_varieties.py::test_pieces_of_calls_gather_however_servers_name_them",
    ),
    # Anthropic
    "the key and the version are headers, sampling is sent only when asked": (
        "wire/test_wire_anthropic.py::test_a_plain_request",
        "wire/test_wire_anthropic.py::test_temperature_is_sent_only_when_asked",
    ),
    "max_tokens is required and covers thinking, which goes by model and goes back unmodified": (
        "wire/test_wire_anthropic.py::test_max_tokens_is_always_sent",
        "wire/test_wire_anthropic.py::test_thinking_follows_effort_and_model",
        "wire/test_wire_anthropic.py::test_thinking_goes_back_unmodified_within_a_tool_turn",
        "wire/test_wire_anthropic.py::test_a_recorded_turn_goes_back_as_it_came",
    ),
    "413, 429, 529, spend limits and overflow have types, overflow also as a stop reason": (
        "wire/test_wire_anthropic.py::test_errors_have_types",
        "wire/test_wire_anthropic.py::test_a_full_window_is_an_overflow_without_content_and_a_length_with_it",
    ),
    "a message streams in blocks, usage is cumulative, ping and error come anywhere": (
        "wire/test_wire_anthropic.py::test_interleaved_blocks_and_deltas_without_a_start_are_kept_apart",
        "wire/test_wire_anthropic.py::test_late_usage_is_cumulative_and_overrides",
        "wire/test_wire_anthropic.py::test_pings_and_unknown_events_change_nothing",
        "wire/test_wire_anthropic.py::test_an_error_may_come_anywhere_in_a_stream",
    ),
    "input is input, cache writes and cache reads; breakpoints ask for them; models have pages": (
        "wire/test_wire_anthropic.py::test_cache_writes_are_split_by_how_long_they_are_kept",
        "wire/test_wire_anthropic.py::test_long_prompts_get_cache_breakpoints_and_short_ones_none",
        "wire/test_wire_anthropic.py::test_models_come_page_by_page",
        "wire/test_wire_varieties.py::test_anthropics_compaction_is_billed_beside_the_message_and_an_adviser_is_not_this_model",
    ),
    # Gemini
    "a stream is another path, ends with a finishReason, and its last usage counts": (
        "wire/test_wire_gemini.py::test_a_stream_is_another_path",
        "wire/test_wire_gemini.py::test_the_last_usage_wins_and_chunks_may_follow_the_finish_reason",
        "wire/test_wire_gemini.py::test_a_recorded_stream_without_its_finish_reason_is_incomplete",
    ),
    "errors may stand in a list, with the wait and the quota in their details": (
        "wire/test_wire_gemini.py::test_an_error_may_come_in_a_stream_and_in_a_list",
        "wire/test_wire_gemini.py::test_a_quota_by_the_minute_is_a_rate_limit_and_others_are_spent",
        "wire/test_wire_gemini.py::test_errors_have_types",
    ),
    "output is candidates and thoughts; signatures go back unchanged": (
        "wire/test_wire_varieties.py::test_gemini_counts_what_tools_brought_as_input_and_thoughts_as_output",
        "wire/test_wire_gemini.py::test_signatures_go_back_unchanged_and_unsigned_thoughts_do_not",
        "wire/test_wire_gemini.py::test_every_signature_and_trace_of_a_recorded_turn_goes_back",
        "wire/test_wire_varieties.py::test_geminis_signature_on_the_compatible_api_goes_back_with_its_call",
    ),
    "finish reasons include the model's errors; a blocked prompt has no candidates": (
        "wire/test_wire_gemini.py::test_finish_reasons",
        "wire/test_wire_gemini.py::test_an_error_of_the_models_without_content_is_a_bad_reply",
        "wire/test_wire_gemini.py::test_a_blocked_prompt_is_refused",
        "wire/test_wire_gemini.py::test_system_prompt_and_sampling_go_where_the_vendor_wants_them",
    ),
    "a schema goes as JSON schema; models have pages": (
        "wire/test_wire_gemini.py::test_a_schema_is_asked_for_as_it_stands",
        "wire/test_wire_gemini.py::test_models_come_page_by_page",
    ),
    # Ollama
    "lines end with done: true, counts may be absent, errors are text and come anywhere": (
        "wire/test_wire_ollama.py::test_every_early_end_is_incomplete_and_nothing_is_never_allowed",
        "wire/test_wire_ollama.py::test_no_counts_at_all_are_unknown_not_zero",
        "wire/test_wire_ollama.py::test_an_error_in_the_middle_of_a_stream_has_its_type",
        "wire/test_wire_ollama.py::test_errors_have_types",
    ),
    "it is reached without a key, with a bearer token, or with user and password, here or in the cloud": (
        "transport/test_transport_endpoints.py::test_basic_authentication_of_ollama",
        "transport/test_transport_endpoints.py::test_base_urls_work_as_people_write_them",
        "transport/test_transport_endpoints.py::test_without_a_key_no_header_is_sent",
    ),
    "the window is ours to set and constant, and truncation is never silent": (
        "wire/test_wire_ollama.py::test_num_ctx_is_the_wires_and_in_every_request",
        "wire/test_wire_ollama.py::test_options_are_merged_last_and_leave_num_ctx",
        "wire/test_wire_ollama.py::test_silent_truncation_is_noticed",
        "transport/test_transport_endpoints.py::test_a_prompt_that_ollama_cut_is_an_overflow",
    ),
    "arguments are objects, ids may be missing, results carry the tool's name": (
        "wire/test_wire_ollama.py::test_arguments_are_json_text",
        "wire/test_wire_ollama.py::test_calls_without_ids_get_stable_ones",
        "wire/test_wire_ollama.py::test_results_carry_their_tools_name",
        "wire/test_wire_ollama.py::test_think_follows_effort",
        "wire/test_wire_ollama.py::test_a_schema_is_the_format",
    ),
    "tags, show, ps and version tell of the host": (
        "wire/test_wire_ollama.py::test_models_are_the_tags",
        "wire/test_wire_ollama.py::test_version_and_loaded_models",
        "wire/test_wire_ollama.py::test_what_a_model_can_do",
        "transport/test_transport_endpoints.py::test_ollama_tells_of_its_host",
    ),
    # every stream
    "bytes are split at line ends only, and events may be cut anywhere": (
        "transport/test_framing.py::test_every_split_of_an_sse_stream_gives_what_the_standard_says",
        "transport/test_framing.py::test_a_cut_at_every_single_byte_changes_nothing",
        "wire/test_exchanges.py::test_cutting_the_bytes_anywhere_gives_the_same_chunks",
        "wire/test_wire_anthropic.py::test_line_separators_of_unicode_are_not_line_ends",
    ),
    "a clean end without the terminal event is incomplete, unless the provider is allowed it": (
        "wire/test_exchanges.py::test_a_stream_cut_between_events_is_never_a_silent_success",
        "transport/test_transport_replies.py::test_a_clean_end_without_the_terminal_event_is_incomplete",
        "transport/test_transport_replies.py::test_a_provider_may_be_allowed_to_end_without_the_terminal_event",
    ),
    "there are four timeouts, one retry loop and one deadline": (
        "transport/test_transport_replies.py::test_a_host_that_never_takes_the_connection_is_a_connect_error",
        "transport/test_transport_replies.py::test_silence_before_the_headers_is_a_first_token_timeout",
        "transport/test_transport_replies.py::test_silence_in_mid_stream_is_an_idle_timeout",
        "transport/test_transport_replies.py::test_the_whole_request_has_a_limit_too",
        "router/test_router_waiting.py::test_tries_are_bounded_and_the_backoff_grows_up_to_its_bound",
        "router/test_router_waiting.py::test_the_deadline_ends_a_call_that_is_not_answered",
    ),
    "a failure in mid-stream resets and starts again, and what was cut still costs": (
        "router/test_router_streams.py::test_a_failure_in_mid_stream_resets_and_starts_again_elsewhere",
        "transport/test_transport_replies.py::test_the_known_usage_of_a_cut_stream_can_be_asked",
        "router/test_router_streams.py::test_every_hop_of_a_stream_is_billed",
        "router/test_router_costs.py::test_partial_replies_are_counted",
    ),
    "an unknown price is unknown, and local is free": (
        "router/test_router_prices.py::test_unknown_is_none_and_never_zero",
        "router/test_router_prices.py::test_local_is_free_even_when_usage_is_unknown",
    ),
    "opaque parts are kept, and stripped when the conversation moves": (
        "wire/test_wire_anthropic.py::test_what_another_provider_thought_is_not_sent",
        "transport/test_transport_endpoints.py::test_the_thoughts_of_another_provider_are_not_sent",
    ),
    "a refused parameter is dropped once, remembered and told": (
        "wire/test_wire_verdict.py::test_an_unsupported_parameter_is_named",
        "transport/test_transport_endpoints.py::test_a_refused_parameter_is_left_out_once_and_remembered",
        "transport/test_transport_endpoints.py::test_every_vendor_words_it_otherwise",
    ),
}


@pytest.mark.parametrize("fact", FACTS)
def test_every_fact_is_held_by_tests_that_exist(fact: str) -> None:
    for name in FACTS[fact]:
        file, _, test = name.partition("::")
        assert re.search(rf"^(?:async )?def {test}\(", (TESTS / file).read_text(), re.M), name
