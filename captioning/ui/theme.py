"""The look: a calm neutral theme with one accent that passes contrast in light and dark, and the system's fonts."""

from __future__ import annotations

from gradio.themes.base import Base
from gradio.themes.utils import colors, sizes

_SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_SYSTEM_MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Consolas", "monospace")

_DARK_PAGE, _DARK_CARD, _DARK_FIELD, _DARK_LINE = "#101214", "#171a1d", "#1f2327", "#343a40"


def make_theme() -> Base:
    """A theme object, so that no theme and no font is fetched from anywhere."""
    theme = Base(
        primary_hue=colors.teal,
        secondary_hue=colors.teal,
        neutral_hue=colors.zinc,
        radius_size=sizes.radius_md,
        text_size=sizes.text_md,
        font=_SYSTEM_FONTS,
        font_mono=_SYSTEM_MONO,
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark=_DARK_PAGE,
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white",
        background_fill_primary_dark=_DARK_CARD,
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark=_DARK_FIELD,
        border_color_primary="*neutral_200",
        border_color_primary_dark=_DARK_LINE,
        border_color_accent="*primary_700",
        border_color_accent_dark="*primary_400",
        color_accent="*primary_700",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        block_background_fill="white",
        block_background_fill_dark=_DARK_CARD,
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark=_DARK_LINE,
        block_shadow="none",
        block_shadow_dark="none",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_label_background_fill="white",
        block_label_background_fill_dark=_DARK_CARD,
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="600",
        input_background_fill="white",
        input_background_fill_dark=_DARK_FIELD,
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark=_DARK_LINE,
        input_border_color_focus="*primary_700",
        input_border_color_focus_dark="*primary_400",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        input_shadow_focus="0 0 0 2px *primary_200",
        input_shadow_focus_dark="0 0 0 2px *primary_800",
        slider_color="*primary_700",
        slider_color_dark="*primary_400",
        loader_color="*primary_700",
        loader_color_dark="*primary_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_400",
        button_primary_background_fill_hover_dark="*primary_300",
        button_primary_border_color="*primary_700",
        button_primary_border_color_dark="*primary_400",
        button_primary_text_color="white",
        button_primary_text_color_dark="*neutral_950",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark=_DARK_FIELD,
        button_secondary_background_fill_hover_dark="#2a2f34",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark=_DARK_LINE,
        button_secondary_text_color="*neutral_800",
        button_secondary_text_color_dark="*neutral_100",
    )
