// Pictures for the map: dropped files and folders, or chosen ones. They are uploaded a few at a time under the names
// that they have, and the page is told when all are there.

import { hideKeepingFocus, make, setText, showDoing, showMessage } from '../common/dom.js';

const AT_ONCE = 4;

export function mount(part) {
  const { root, props, trigger, upload, followValue } = part;
  const filesInput = make('input', { type: 'file', multiple: true, hidden: true, class: 'cs-intake-files', 'aria-label': 'Files for the map' });
  const folderInput = make('input', { type: 'file', webkitdirectory: true, hidden: true, class: 'cs-intake-folder', 'aria-label': 'A folder for the map' });
  const filesButton = make('button', { type: 'button', class: 'cs-button', onclick: () => filesInput.click() }, 'Choose files…');
  const folderButton = make('button', { type: 'button', class: 'cs-button', onclick: () => folderInput.click() }, 'Choose a folder…');
  const give = (kind, more = {}) => trigger('pictures_given', { kind, adds: adding && addChoice.checked, ...more });
  const samplesButtons = props.value.samples.map(([samples, title]) => make('button', { type: 'button', class: 'cs-button', onclick: () => give('samples', { samples }) }, title));
  const haltButton = make('button', { type: 'button', class: 'cs-button', hidden: true, onclick: () => { stopped = true; } }, '■ Stop');
  const own = `goal${Math.random().toString(36).slice(2, 9)}`;
  const addChoice = make('input', { type: 'radio', name: own, checked: true });
  const newChoice = make('input', { type: 'radio', name: own });
  const goal = make('div', { class: 'cs-intake-goal', role: 'radiogroup', 'aria-label': 'New pictures' },
    make('label', {}, addChoice, 'add to this map'), make('label', {}, newChoice, 'draw a new map'));
  const folderPath = make('input', { class: 'cs-field', type: 'text', placeholder: '/home/me/photographs', 'aria-label': 'Path of a folder, table, archive or clip on this machine', spellcheck: 'false' });
  const folderOpen = make('button', { type: 'submit', class: 'cs-button' }, 'Open');
  const folderForm = make('form', { class: 'cs-row', onsubmit: (event) => { event.preventDefault(); give('folder', { folder: folderPath.value }); } }, folderPath, folderOpen);
  const folderNote = make('p', { class: 'cs-hint' });
  const folderBox = make('details', { class: 'cs-intake-folder-box' }, make('summary', {}, 'A folder on this machine'), folderForm, folderNote);
  const state = make('p', { class: 'cs-hint', role: 'status' });
  const refusal = make('p', { hidden: true });
  const meter = make('progress', { class: 'cs-progress', max: '1', hidden: true, 'aria-label': 'Uploading' });
  const about = make('p', { class: 'cs-intake-about' });
  const kinds = make('p', { class: 'cs-hint cs-intake-kinds' });
  root.classList.add('cs-intake');
  root.append(filesInput, folderInput, about,
    make('div', { class: 'cs-intake-buttons' }, filesButton, folderButton, ...samplesButtons, haltButton), goal, folderBox, kinds, meter, state, refusal);

  let adding = false;
  let stopped = false;
  let busy = false;

  /** All files below an entry of a drop, with their paths; where the browser may not read an entry, its file is null. */
  async function filesBelow(entry, before = '') {
    const name = before + entry.name;
    const found = [];
    try {
      if (entry.isFile) return [{ file: await new Promise((resolve, reject) => { entry.file(resolve, reject); }), name }];
      const reader = entry.createReader();
      for (;;) {
        // A reader hands out a hundred entries at a time, and none at the end.
        const entries = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
        if (!entries.length) return found;
        for (const child of entries) found.push(...await filesBelow(child, `${name}/`));
      }
    } catch {
      return [...found, { file: null, name }];
    }
  }

  const isHidden = (name) => name.split('/').some((part) => part.startsWith('.') || part === '__MACOSX');

  async function send(found) {
    if (busy) { showMessage(refusal, 'failed', 'Files are being sent already; wait for them or press Stop, then give these again.'); return; }
    const wanted = found.filter(({ name }) => !isHidden(name));
    if (!wanted.length) { setText(state, 'There is no file in that; give pictures, a folder, a zip, a clip or a table.'); return; }
    if (wanted.length > props.value.most) { setText(state, `That is ${wanted.length} files; a map holds at most ${props.value.most}. Choose fewer.`); return; }
    busy = true;
    stopped = false;
    const sent = [];
    const failed = [];
    let next = 0;
    let done = 0;
    const buttons = [filesButton, folderButton, ...samplesButtons];
    haltButton.hidden = meter.hidden = false;
    if (buttons.includes(document.activeElement)) haltButton.focus();
    for (const button of buttons) button.disabled = true;
    const work = async () => {
      while (next < wanted.length && !stopped) {
        const place = next;
        next += 1;
        const { file, name } = wanted[place];
        try {
          if (!file) throw new Error('unreadable');
          sent[place] = { path: (await upload(file)).path, name };
        } catch {
          failed.push(name);
        }
        done += 1;
        meter.value = done / wanted.length;
        showDoing(state, `Sending ${done} of ${wanted.length}`);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    for (const button of buttons) button.disabled = false;
    hideKeepingFocus(haltButton, true, filesButton);
    meter.hidden = true;
    showMessage(refusal, 'idle', '');
    busy = false;
    setText(state, failed.length ? `${failed.length} could not be sent: ${failed.slice(0, 3).join(', ')}` : '');
    if (stopped) setText(state, 'Stopped; nothing was changed.');
    else if (sent.some(Boolean)) give('files', { files: sent.filter(Boolean) });
  }

  const withNames = (list) => [...list].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
  for (const input of [filesInput, folderInput]) {
    input.addEventListener('change', () => {
      const chosen = withNames(input.files);
      input.value = '';
      send(chosen);
    });
  }

  root.addEventListener('dragover', (event) => { event.preventDefault(); root.classList.add('is-over'); });
  root.addEventListener('dragleave', (event) => { if (!root.contains(event.relatedTarget)) root.classList.remove('is-over'); });
  root.addEventListener('drop', async (event) => {
    event.preventDefault();
    root.classList.remove('is-over');
    // Entries must be taken before the first pause: afterwards the browser has forgotten them.
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const found = entries.length ? (await Promise.all(entries.map((entry) => filesBelow(entry)))).flat() : withNames(event.dataTransfer.files);
    send(found);
  });

  followValue((value) => {
    adding = value.adding;
    root.classList.toggle('is-slim', adding);
    setText(about, adding ? 'Drop pictures here, or' : 'Drop pictures, a folder, a zip, a clip or a table here');
    setText(kinds, value.kinds);
    goal.hidden = !adding;
    kinds.hidden = adding;
    if (value.folders === null) return;
    folderPath.disabled = folderOpen.disabled = !value.folders;
    setText(folderNote, value.folders
      ? 'A folder with its subfolders, or a table, an archive or a clip. Offered because page and server are on the same machine.'
      : 'Off: the server does not read folders for pages on other machines. Upload the files instead.');
  });
}
