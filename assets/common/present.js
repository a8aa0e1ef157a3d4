// The view for an audience: large type, without the controls that only the person at the desk needs. Page Down and
// Page Up, which remote controls send as well, move from tab to tab; they write nothing, so no typed text is lost.

import { make, setText } from './dom.js';

const HELP = 'Large type, without the advanced controls. Page Down and Page Up move from tab to tab. Alt+P begins and ends it.';

export function mount(part) {
  const { root, props } = part;
  const hint = make('span', { class: 'cs-present-hint cs-hint' }, 'Page Down: next tab');
  const button = make('button', { type: 'button', class: 'cs-button', title: HELP, 'aria-keyshortcuts': 'Alt+P', 'aria-pressed': 'false', onclick: () => present(!isPresenting()) }, 'Present');
  root.classList.add('cs-row');
  root.append(hint, button);

  const isPresenting = () => document.body.classList.contains('cs-presenting');
  const isTyping = (target) => target.isContentEditable || target.matches('textarea, select, input:not([type=range], [type=checkbox], [type=radio])');

  function present(on) {
    document.body.classList.toggle('cs-presenting', on);
    button.setAttribute('aria-pressed', String(on));
    setText(button, on ? 'End presenting' : 'Present');
    hint.hidden = !on;
    // What is drawn to measure, such as the map, hears that there is more or less room.
    window.dispatchEvent(new Event('resize'));
  }

  function moveOn(step) {
    const tabs = [...document.querySelectorAll(`#${props.value.tabs} > .tab-wrapper [role=tab]`)].filter((tab) => tab.getClientRects().length && getComputedStyle(tab).visibility !== 'hidden');
    const here = tabs.findIndex((tab) => tab.getAttribute('aria-selected') === 'true');
    const next = tabs[here + step];
    if (!next) return;
    if (document.fullscreenElement) document.exitFullscreen();
    next.click();
    next.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }

  function hear(event) {
    if (!root.isConnected || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.altKey) {
      if (event.code !== 'KeyP') return;
      present(!isPresenting());
    } else {
      const step = { PageDown: 1, PageUp: -1 }[event.key];
      if (!step || !isPresenting() || isTyping(event.target)) return;
      moveOn(step);
    }
    event.preventDefault();
  }

  document.addEventListener('keydown', hear);
  present(new URLSearchParams(window.location.search).get('present') === '1');
}
